"""Write access to Redis runs no code, and stops no worker."""

import json
import os
import pickle
import signal
import socket
import tracemalloc
import zlib
from datetime import timedelta
from pathlib import Path

import django_rq
import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from redis import Redis
from rq import Callback, Queue, Repeat, Retry, SimpleWorker, Webhook
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from scans.jobs import run_scan
from scans.models import Scan, ScanCounter, ScanProfile, Target, TaskQueue
from tenants import secrets
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.exceptions import ForgedJobError, NoTenantError, WrongTenantError
from tenants.jobs import FAILURES_ARE_KEPT_SECONDS, MAX_BYTES, TenantJob, TenantQueue
from tenants.planes import current
from tenants.services import suspend_tenant
from tenants.workers import TenantWorker
from tests.scans.scanning import manage

RUN_SCAN = "scans.jobs.run_scan"
CALL = ["os.system", None, [], {}]


def note(path, **kwargs):
    """A job function: writes down where it is run."""
    with open(path, "a") as file:
        file.write(json.dumps({"tenant": current_tenant().slug, **kwargs}) + "\n")


NOTE = f"{__name__}.note"


@pytest.fixture
def broker(installation) -> Redis:
    return django_rq.get_connection("default")


@pytest.fixture
def with_note(settings):
    settings.BULKHEAD_JOB_FUNCTIONS = {*settings.BULKHEAD_JOB_FUNCTIONS, NOTE}


@pytest.fixture
def handlers():
    """A worker takes over the process's signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def make_task(user):
    """A scan that a worker takes and gives back at once: its fence tells that the job was run."""
    target = Target.objects.create(name="off", host="127.0.0.1", ports=[1], is_active=False, created_by=user)
    profile, _ = ScanProfile.objects.get_or_create(name="ports", defaults={"engines": {"ports": {}}})
    with transaction.atomic():
        scan = Scan.objects.create(number=ScanCounter.next(), target=target, profile=profile, created_by=user)
        return TaskQueue.objects.create(task_id=scan.number)


def send(user, slug="acme", queue=None):
    with tenant_context(slug):
        message_id = str(make_task(user).message_id)
        queue = queue or django_rq.get_queue("default")
        return queue.enqueue(run_scan, message_id, job_id=message_id, job_timeout=-1)


def fences(slug="acme"):
    with tenant_context(slug):
        return {str(key): fence for key, fence in TaskQueue.objects.values_list("message_id", "fence")}


def failed(broker):
    return set(FailedJobRegistry("default", connection=broker).get_job_ids(cleanup=False))


def work(worker_class=SimpleWorker):
    django_rq.get_worker("default", worker_class=worker_class).work(burst=True)


class Touch:
    """Unpickled, it runs."""

    def __reduce__(self):
        return os.system, (f"touch {os.environ['MARKER']}",)


def put(**fields):
    return lambda job: job.connection.hset(job.key, mapping=fields)


def put_data(value, compress=True):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return put(data=zlib.compress(data) if compress else data)


def put_meta(**changes):
    def change(job):
        meta = job.meta | changes
        put(meta=json.dumps({name: value for name, value in meta.items() if value is not None}))(job)

    return change


def touch(job):
    return f"touch {os.environ['MARKER']}"


def replay(job):
    """Under another id, which the row of that number would be claimed for."""
    other = "00000000-0000-0000-0000-00000000000a"
    job.connection.hset(job.key_for(other), mapping=job.connection.hgetall(job.key))
    job.connection.lset("rq:queue:default", 1, other)
    return other


def move_from_other_queue(job):
    with tenant_context("acme"):
        moved = TenantQueue("other", connection=job.connection).enqueue(run_scan, job.id, job_id=job.id, job_timeout=-1)
    assert moved.origin == "other"


def sign_as_globex(job):
    with tenant_context("globex"):
        own = TenantJob.create(RUN_SCAN, [job.id], connection=job.connection, id=job.id, origin="default", timeout=-1)
    put(meta=json.dumps(own.meta | {"tenant": job.meta["tenant"]}))(job)


def plain(serializer):
    def replace(job):
        Queue(
            "default", connection=Redis(connection_pool=job.connection.connection_pool), serializer=serializer
        ).enqueue("os.system", touch(job), job_id=job.id)
        job.connection.rpop("rq:queue:default")

    return replace


FORGERIES = {
    "pickled data": lambda job: put_data(pickle.dumps(Touch()))(job),
    "pickled data, not compressed": lambda job: put_data(pickle.dumps(Touch()), compress=False)(job),
    "another function": lambda job: put_data(["os.system", None, [touch(job)], {}])(job),
    "another function of ours": put_data(["scans.jobs._run", None, [None], {}]),
    "a function that is no text": put_data([["os.system"], None, [], {}]),
    "a method of an instance": put_data([RUN_SCAN, {"a": 1}, [], {}]),
    "other arguments": put_data([RUN_SCAN, None, ["00000000-0000-0000-0000-00000000000b"], {}]),
    "named arguments": lambda job: put_data([RUN_SCAN, None, [], {"message_id": job.id}])(job),
    "data that is no list": put_data({"func": "os.system"}),
    "data nested deeply": put_data(b"[" * 60_000),
    "data that is no UTF-8": put_data(b"\xff\xfe[]"),
    "data that is no JSON": put_data(b"os.system()"),
    "no data to speak of": put(data=b""),
    "five megabytes of data": put_data(json.dumps([RUN_SCAN, None, [os.urandom(2_500_000).hex()], {}]).encode()),
    "a decompression bomb": put_data(b"[" + b" " * 30_000_000),
    "another tenant with this one's signature": lambda job: put_meta(tenant=_id("globex"))(job),
    "this tenant with another one's signature": sign_as_globex,
    "a tenant that is not there": put_meta(tenant="0" * 32),
    "a tenant that is no id": put_meta(tenant={"$ne": None}),
    "a key that is not there": put_meta(key=2),
    "a key that equals a number": put_meta(key=True),
    "a key that is no number": put_meta(key=[1]),
    "another signature": put_meta(signature="0" * 64),
    "a signature that is no text": put_meta(signature=[]),
    "a signature outside ASCII": put_meta(signature="\ud800"),
    "no signature": put_meta(signature=None),
    "an empty envelope": put(meta="{}"),
    "no envelope": lambda job: job.connection.hdel(job.key, "meta"),
    "an envelope that is no JSON": put(meta=b"\xff{"),
    "an envelope that is no object": put(meta="[1]"),
    "an envelope nested deeply": put(meta="[" * 60_000),
    "an envelope of a megabyte": put_meta(filler="x" * 1_000_000),
    "a success callback": put(success_callback_name="os.system"),
    "a failure callback": put(failure_callback_name="os.system"),
    "a stopped callback": put(stopped_callback_name="os.system"),
    "a webhook": put(webhooks='[{"url": "http://127.0.0.1:1/", "job_status": "failed"}]'),
    "dependencies": put(dependency_ids='["a"]'),
    "a dependency of old": put(dependency_id=b"\xff"),
    "a group": put(group_id="g"),
    "a rate limit": put(rate_limit_key="k", rate_limit_concurrency="1"),
    "a rate limit of no number": put(rate_limit_concurrency="soon"),
    "retries": put(retries_left="3"),
    "repetitions": put(repeats_left="3", repeat_intervals="[0]"),
    "another timeout": put(timeout="1"),
    "a timeout that is no number": put(timeout="soon"),
    "a timeout beyond all bounds": put(timeout="9" * 400),
    "a timeout that is endless": put(timeout="-2"),
    "another id": replay,
    "another queue": put(origin="other"),
    "made for another queue": move_from_other_queue,
    "made for another queue, and says otherwise": lambda job: (move_from_other_queue(job), put(origin="default")(job)),
    "a queue that is no UTF-8": put(origin=b"\xff"),
    "an unknown status": put(status="nonsense"),
    "a date that is none": put(created_at="yesterday"),
    "a worker that is no UTF-8": put(worker_name=b"\xff", status="started"),
    "a plain RQ job in pickle": plain(None),
    "a plain RQ job in JSON": plain(JSONSerializer),
}


def _id(slug):
    with tenant_context(slug) as tenant:
        return tenant.id.hex


def forge(name, job):
    return FORGERIES[name](job) if FORGERIES[name] is replay else (FORGERIES[name](job), job.id)[1]


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_job_is_not_run_and_the_jobs_beside_it_are(
    alice, globex, broker, handlers, tmp_path, monkeypatch, caplog, name
):
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    before, target, after = send(alice), send(alice), send(alice)
    forged = forge(name, target)

    work()

    assert fences() == {before.id: 1, target.id: 0, after.id: 1}
    assert failed(broker) == {forged}
    assert not (tmp_path / "marker").exists()
    assert "ForgedJobError" in caplog.text and forged in caplog.text


WORKERS = {
    "worker": ["worker", "--burst"],
    "rqworker": ["rqworker", "--burst"],
    "simple": ["rqworker", "--burst", "--worker-class", "rq.SimpleWorker", "--job-class", "rq.job.Job"],
}


@pytest.mark.parametrize("argv", WORKERS.values(), ids=WORKERS)
def test_a_real_worker_goes_through_all_forgeries_and_runs_what_is_genuine(
    alice, globex, broker, tmp_path, monkeypatch, argv
):
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    first = send(alice)
    forged = set()
    for name in FORGERIES:
        if FORGERIES[name] is not replay:
            forged.add(forge(name, send(alice)))
    put_no_jobs(broker)
    last = send(alice)

    log = manage(*argv)

    assert {key for key, fence in fences().items() if fence} == {first.id, last.id}, log
    assert failed(broker) == forged and "unhandled exception" not in log
    assert log.count("ForgedJobError: ") >= len(forged)
    assert not (tmp_path / "marker").exists()


def put_no_jobs(broker):
    """Entries of the queue that no job can be read for."""
    broker.set("rq:job:text", "no hash")
    broker.hset("rq:job:empty", "status", "queued")
    broker.rpush("rq:queue:default", "text", "empty", "missing", "no id!", b"\xff", "a:b:c", "x" * 100_000, "")


def no_rate(broker):
    broker.sadd("rq:rl-keys", "k")
    broker.hset("rq:rl:k", "concurrency", "soon")


# What RQ's maintenance looks through.
NO_BOOKS = {
    "running": lambda broker: broker.zadd("rq:wip:default", {"gone:1": 1, "text:1": 1, "no id!": 1, b"\xff": 1}),
    "finished, of another type": lambda broker: broker.set("rq:finished:default", "text"),
    "between queue and worker": lambda broker: broker.rpush("rq:queue:default:intermediate", "no id!", b"\xff"),
    "ready": lambda broker: broker.zadd("rq:ready:default", {"gone": 1, "text": 1, "no id!": 1, b"\xff": 1}),
    "ready, of no hash": lambda broker: broker.zadd("rq:ready:default", {"text": 1}),
    "ready, of no data": lambda broker: broker.zadd("rq:ready:default", {"empty": 1}),
    "ready, of another type": lambda broker: broker.set("rq:ready:default", "text"),
    "rate limits of another type": lambda broker: broker.set("rq:rl-keys", "text"),
    "a rate limit that is no UTF-8": lambda broker: broker.sadd("rq:rl-keys", b"\xff"),
    "a rate limit that is no number": no_rate,
    "groups of another type": lambda broker: broker.set("rq:groups", "text"),
}


@pytest.mark.parametrize("put_no_books", NO_BOOKS.values(), ids=NO_BOOKS)
def test_what_is_no_job_at_all_stops_no_worker(alice, broker, handlers, put_no_books):
    put_no_jobs(broker)
    put_no_books(broker)
    genuine = send(alice)

    django_rq.get_worker("default", worker_class=_InProcess).work(burst=True)

    assert fences() == {genuine.id: 1}


class _InProcess(TenantWorker):
    def execute_job(self, job, queue):
        SimpleWorker.execute_job(self, job, queue)


CHANGES = {
    "a failure callback": lambda url: put(failure_callback_name=NOTE, dependency_ids="[]"),
    "a webhook": lambda url: put(webhooks=json.dumps([{"url": url, "job_status": "failed", "timeout": 1}])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_job_that_was_changed_after_it_failed_is_not_run_by_maintenance(
    alice, broker, with_note, handlers, tmp_path, monkeypatch, change
):
    """RQ calls the failure callback and the webhooks of a job whose worker is gone."""
    monkeypatch.chdir(tmp_path)
    job = send(alice)
    broker.delete("rq:queue:default")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        change(f"http://127.0.0.1:{listener.getsockname()[1]}/")(job)
        put(status="started")(job)
        broker.zadd("rq:wip:default", {f"{job.id}:1": 1})

        work(TenantWorker)

        with pytest.raises(BlockingIOError):  # nobody called
            listener.accept()
    assert failed(broker) == {job.id} and fences() == {job.id: 0}


def put_ready(job):
    put(status="ready_to_enqueue")(job)
    job.connection.zadd("rq:ready:default", {job.id: 1})


def put_behind_a_rate_limit(job):
    put(status="rate_limited")(job)
    job.connection.sadd("rq:rl-keys", "k")
    job.connection.hset("rq:rl:k", "concurrency", 5)
    job.connection.zadd("rq:rl:k:rate_limited", {job.id: 1})


@pytest.mark.parametrize("bring_back", [put_ready, put_behind_a_rate_limit])
def test_a_forged_job_that_maintenance_brings_back_is_not_run(alice, broker, handlers, bring_back):
    job = send(alice)
    put(timeout="100")(job)
    broker.delete("rq:queue:default")
    bring_back(job)

    work()

    assert fences() == {job.id: 0}


def test_no_job_follows_another_whatever_redis_says(alice, broker, handlers):
    first, follower = send(alice), send(alice)
    broker.rpop("rq:queue:default")
    broker.sadd(first.dependents_key, follower.id)

    work()

    assert fences() == {first.id: 1, follower.id: 0} and failed(broker) == set()


def test_a_decompression_bomb_is_never_unpacked(broker):
    bomb = zlib.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BYTES
    tracemalloc.start()

    TenantJob("bomb", connection=broker).restore({b"data": bomb})

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


REFUSED = {
    "unbound": (NoTenantError, lambda: django_rq.enqueue(run_scan, "1")),
    "a function off the list": (ForgedJobError, lambda: _bound(lambda: django_rq.enqueue("os.system", "true"))),
    "control": (NoTenantError, lambda: _in_control(lambda: django_rq.enqueue(run_scan, "1"))),
    "another tenant": (WrongTenantError, lambda: _enqueue(meta={"tenant": "0" * 32})),
    "a success callback": (ForgedJobError, lambda: _enqueue(on_success=Callback(note))),
    "a failure callback": (ForgedJobError, lambda: _enqueue(on_failure=Callback(note))),
    "a stopped callback": (ForgedJobError, lambda: _enqueue(on_stopped=Callback(note))),
    "a webhook": (ForgedJobError, lambda: _enqueue(webhooks=[Webhook("http://127.0.0.1:1/", "failed")])),
    "a dependency": (ForgedJobError, lambda: _enqueue(depends_on="other")),
    "retries": (ForgedJobError, lambda: _enqueue(retry=Retry(max=3))),
    "repetition": (ForgedJobError, lambda: _enqueue(repeat=Repeat(times=2))),
    "arguments that are no JSON": (TypeError, lambda: _bound(lambda: django_rq.enqueue(run_scan, object()))),
    "large arguments": (ForgedJobError, lambda: _bound(lambda: django_rq.enqueue(run_scan, "x" * 70_000))),
    "later": (ForgedJobError, lambda: _bound(lambda: _queue().enqueue_in(timedelta(1), run_scan, "1"))),
    "many": (ForgedJobError, lambda: _bound(lambda: _queue().enqueue_many([Queue.prepare_data(run_scan, ("1",))]))),
    "at once": (ForgedJobError, lambda: _bound(lambda: django_rq.get_queue(is_async=False).enqueue(run_scan, "1"))),
}


def _queue():
    return django_rq.get_queue("default")


def _bound(act):
    with tenant_context("acme"):
        act()


def _in_control(act):
    with control_plane():
        act()


def _enqueue(**options):
    _bound(lambda: _queue().enqueue(run_scan, "1", **options))


def _in_transaction(act):
    def inside():
        with transaction.atomic():
            act()

    return inside


@pytest.mark.parametrize(("error", "act"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_refused_later_is_refused_before_anything_is_in_redis(acme, broker, error, act):
    with pytest.raises(error):
        act()

    assert broker.keys("rq:*") == []


def test_a_refusal_inside_a_transaction_comes_at_once(acme, broker):
    with tenant_context("acme"), transaction.atomic():
        with pytest.raises(ForgedJobError):
            django_rq.enqueue("os.system", "true")
        assert connection.run_on_commit == []


@pytest.mark.parametrize("mode", [None, "auto", "request_finished"])
def test_a_job_waits_for_the_commit_and_is_gone_with_a_rollback(acme, broker, mode):
    with tenant_context("acme"):
        with transaction.atomic():
            kept = django_rq.get_queue("default", commit_mode=mode).enqueue(run_scan, "1")
            assert broker.keys("rq:job:*") == []
        with pytest.raises(RuntimeError), transaction.atomic():
            django_rq.get_queue("default", commit_mode=mode).enqueue(run_scan, "2")
            raise RuntimeError

    assert broker.keys("rq:job:*") == [kept.key.encode()]


def test_every_way_to_enqueue_carries_the_tenant(acme, broker, with_note, handlers, tmp_path):
    path = str(tmp_path / "notes")
    with tenant_context("acme"):
        django_rq.enqueue(note, path, way="django_rq.enqueue")
        django_rq.job(note).delay(path, way="@job")
        _queue().enqueue(NOTE, path, way="by name")
        _queue().enqueue_call(note, (path,), {"way": "enqueue_call"})
        TenantQueue("default", connection=broker).enqueue(note, path, way="the queue class")

    work()

    ways = ["django_rq.enqueue", "@job", "by name", "enqueue_call", "the queue class"]
    assert [json.loads(line) for line in Path(path).read_text().splitlines()] == [
        {"tenant": "acme", "way": way} for way in ways
    ]


def test_results_are_not_kept_and_failures_for_a_week(acme, broker, with_note, handlers, tmp_path):
    with tenant_context("acme"):
        done = django_rq.enqueue(note, str(tmp_path / "notes"), secret="canary-1")
        broken = django_rq.enqueue(note, str(tmp_path), secret="canary-2")  # a directory cannot be written

    assert done.description == NOTE and "canary" not in broken.description
    work()

    assert not broker.exists(done.key) and failed(broker) == {broken.id}
    assert 0 < broker.ttl(broken.key) <= FAILURES_ARE_KEPT_SECONDS
    assert broker.keys("rq:results:*") == [f"rq:results:{broken.id}".encode()]


@pytest.mark.parametrize("worker_class", [SimpleWorker, TenantWorker])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_job_starts_unbound_with_no_connection_and_leaves_none(
    acme, broker, with_note, handlers, tmp_path, worker_class
):
    seen, bound_in_parent = tmp_path / "seen", []

    class Looking(worker_class):
        def execute_job(self, job, queue):
            bound_in_parent.append(current())
            super().execute_job(job, queue)

        def perform_job(self, *arguments):
            seen.write_text(f"{os.getpid()} {current()} {connections.all()}")
            return super().perform_job(*arguments)

    with tenant_context("acme"):
        Target.objects.count()  # a connection that a child could inherit
        django_rq.enqueue(note, str(tmp_path / "notes"))
    if worker_class is TenantWorker:
        with control_plane():  # as manage.py does
            work(Looking)
        pid, what = seen.read_text().split(" ", 1)
        assert int(pid) != os.getpid() and what == "None []" and bound_in_parent == [None]
    else:
        work(Looking)

    assert connections.all() == []
    assert (tmp_path / "notes").exists()


def test_a_worker_gives_up_the_fleet_key(acme, handlers):
    work(TenantWorker)

    assert secrets._given_up == {"fleet"}


def test_the_stock_worker_command_is_ours(acme):
    worker = django_rq.get_worker("default", serializer="rq.serializers.PickleSerializer", job_class=Job)

    assert (type(worker), worker.job_class, worker.queue_class) == (TenantWorker, TenantJob, TenantQueue)
    assert worker.serializer is JSONSerializer


@pytest.mark.parametrize("argv", [WORKERS["worker"], WORKERS["rqworker"]], ids=["worker", "rqworker"])
def test_a_suspended_tenants_job_is_not_run_and_the_log_says_so(alice, broker, argv):
    job = send(alice)
    suspend_tenant(slug="acme")

    log = manage(*argv)

    assert f"Job {job.id} is not run: Tenant 'acme' is suspended." in log
    assert "Traceback" not in log and failed(broker) == set()
    with control_plane():
        from tenants.services import resume_tenant

        resume_tenant(slug="acme")
    assert fences() == {job.id: 0}


def test_a_replayed_job_finds_its_row_claimed(alice, broker, handlers):
    job = send(alice)
    genuine = broker.hgetall(job.key)
    with tenant_context("acme"):
        TaskQueue.objects.update(fence=F("fence") + 1, handled_at=F("available_at"))

    for _ in range(2):
        broker.hset(job.key, mapping=genuine)
        broker.rpush("rq:queue:default", job.id)
        work()

    assert fences() == {job.id: 1}
