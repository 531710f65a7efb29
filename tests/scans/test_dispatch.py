"""From the outbox to a worker: fairly, each task once, and whatever happens to Redis or to a tenant in between."""

import gc
import os
import signal
import threading
import time
from datetime import timedelta
from uuid import UUID

import django_rq
import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from scans import addresses, dispatch, rounds, wakeup
from scans.dispatch import dispatch_next, run_dispatcher, run_round, sweep
from scans.exceptions import TasksHeld
from scans.jobs import run_scan
from scans.leases import claim_next, put_back, take_lease
from scans.limits import has_room_to_send
from scans.models import Authorization, Scan, ScanCounter, ScanEvent, ScanProfile, ScanRun, Target, TaskQueue
from scans.recording import start_run
from scans.services import reconsider_blocked_scans, request_scan
from scans.states import move
from scans.targets import revoke
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, tenant_context
from tenants.embedded import Redis
from tenants.models import RegistryRevision, Tenant
from tenants.provisioning import PROVISIONERS
from tenants.services import resume_tenant, suspend_tenant
from tests.scans.scanning import authorize, dispatching, manage, start, wait_until


@pytest.fixture
def queue(installation):
    return django_rq.get_queue("default")


def make_target(user):
    target = Target.objects.create(name="quiet", host="127.0.0.1", ports=[1], created_by=user)
    authorize(user, target)
    return target


def profile():
    return ScanProfile.objects.get_or_create(name="ports", defaults={"engines": {"ports": {}}})[0]


def ask(slug, user, count=1):
    """Queued scans, without the wake-up."""
    with tenant_context(slug), transaction.atomic():
        target = Target.objects.first() or make_target(user)
        for _ in range(count):
            scan = Scan.objects.create(number=ScanCounter.next(), target=target, profile=profile(), created_by=user)
            TaskQueue.objects.create(task_id=scan.number)
        return scan


def tasks(slug):
    with tenant_context(slug):
        return {str(key): count for key, count in TaskQueue.objects.values_list("message_id", "dispatches")}


def states(slug):
    with tenant_context(slug):
        return list(Scan.objects.order_by("number").values_list("state", "reason"))


def let_time_pass(slug):
    with tenant_context(slug):
        TaskQueue.objects.filter(handled_at=None).update(available_at=timezone.now() - timedelta(seconds=1))


def allow(slug, **limits):
    with control_plane(), transaction.atomic():
        RegistryRevision.publish(Tenant.objects.filter(slug=slug), limits=limits)


def test_a_tenant_with_one_scan_is_served_second_however_many_another_has(alice, mallory, queue):
    ask("acme", alice, 40)
    sweep()
    ask("globex", mallory)
    sweep()

    [mine] = tasks("globex")
    assert queue.job_ids.index(mine) == 1 and len(queue.job_ids) == 2


def test_many_dispatchers_at_once_send_each_task_once(alice, mallory, queue):
    for slug in ("acme", "globex"):
        allow(slug, weight=100, running_scans=100)
    ask("acme", alice, 30)
    ask("globex", mallory, 10)
    barrier, sent = threading.Barrier(3), []

    def work():
        barrier.wait()
        try:
            sweep(send=lambda task: sent.append(str(task.message_id)))
        finally:
            close_tenant_connections()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = tasks("acme") | tasks("globex")
    assert sorted(sent) == sorted(expected) and set(expected.values()) == {1}


def test_a_claim_that_met_a_lock_leaves_no_cursor_to_another_threads_collector(alice):
    """It would wait there for this connection, and this one, on SQLite, for that thread's transaction."""
    ask("acme", alice)
    locked, released = threading.Event(), threading.Event()

    def hold():
        with tenant_context("acme"), transaction.atomic():
            ScanCounter.objects.select_for_update().get()
            locked.set()
            released.wait(60)
        close_tenant_connections()

    def cursors():
        return {id(each) for each in gc.get_objects() if type(each).__name__.endswith(("Cursor", "CursorWrapper"))}

    holder = threading.Thread(target=hold)
    holder.start()
    gc.disable()
    try:
        assert locked.wait(60)
        with tenant_context("acme"):
            Scan.objects.count()
            before = cursors()
            with pytest.raises(TasksHeld):
                claim_next()
        assert cursors() <= before
    finally:
        gc.enable()
        released.set()
        holder.join(60)


def test_dispatcher_processes_at_once_send_each_task_once(alice, queue):
    allow("acme", weight=100, running_scans=100)
    ask("acme", alice, 12)

    processes = [start("dispatch", "--once") for _ in range(2)]
    output = [process.communicate(timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], output
    assert set(tasks("acme").values()) == {1} and sorted(queue.job_ids) == sorted(tasks("acme"))


def test_dispatchers_at_once_send_no_more_than_a_tenant_may_have_on_the_way(alice, queue, monkeypatch):
    """Two count at the same moment, and the second goes on with what it knows when the first has claimed."""
    allow("acme", weight=1, running_scans=100)
    ask("acme", alice, 10)
    both, has_claimed, counts, claimed = threading.Barrier(2, timeout=60), threading.Event(), [], []

    def count():
        counts.append(has_room := has_room_to_send())
        is_second = len(counts) == 2
        both.wait()
        assert not is_second or has_claimed.wait(60)
        return has_room

    def work():
        try:
            with tenant_context("acme"):
                claimed.append(claim_next())
            has_claimed.set()
        except TasksHeld:
            both.wait()  # the other is on its way between the count and the claim
        finally:
            close_tenant_connections()

    monkeypatch.setattr("scans.leases.has_room_to_send", count)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [task.task_id for task in claimed] == [1] and sum(tasks("acme").values()) == 1


def test_the_next_one_is_sent_when_a_worker_has_taken_one(alice, queue):
    ask("acme", alice, 3)
    sweep()
    assert len(queue.job_ids) == 1 and wakeup.wait_for_work(0) == []

    with tenant_context("acme") as acme:
        take_lease(UUID(queue.job_ids[0]))
    assert wakeup.wait_for_work(0) == [acme.id]
    sweep()

    assert len(queue.job_ids) == 2


def test_no_more_run_at_once_than_a_tenant_may(alice, queue):
    allow("acme", weight=10, running_scans=3)
    ask("acme", alice, 5)
    sweep()
    assert len(queue.job_ids) == 3
    with tenant_context("acme") as acme:
        leases = [take_lease(UUID(pk)) for pk in queue.job_ids]
    wakeup.wait_for_work(0)
    sweep()
    assert len(queue.job_ids) == 3

    with tenant_context("acme"):
        leases[0].finish("succeeded")
    assert wakeup.wait_for_work(0) == [acme.id]
    sweep()

    assert len(queue.job_ids) == 4


def test_a_dead_workers_scan_needs_no_new_room(alice, queue):
    allow("acme", running_scans=1)
    ask("acme", alice, 2)
    sweep()
    with tenant_context("acme"):
        take_lease(UUID(queue.job_ids[0]))
        past = timezone.now() - timedelta(seconds=1)
        TaskQueue.objects.filter(fence=1).update(lease_until=past, available_at=past)
    sent = []

    sweep(send=sent.append)

    assert [task.task_id for task in sent] == [1]


def test_a_tenant_that_may_run_nothing_starts_nothing_until_it_may(alice, queue):
    allow("acme", running_scans=0)
    ask("acme", alice)
    sweep()
    assert queue.job_ids == [] and states("acme") == [("queued", "")]

    allow("acme")
    sweep()
    assert len(queue.job_ids) == 1


def test_a_lower_priority_number_is_first_and_else_who_asked_first(alice, queue):
    allow("acme", weight=10, running_scans=10)
    with tenant_context("acme"):
        target = make_target(alice)
        for priority in (5, 9, 1, 5):
            request_scan(target=target, profile=profile(), user=alice, priority=priority)
    sent = []

    sweep(send=sent.append)

    assert [task.task_id for task in sent] == [3, 1, 4, 2]


def test_a_job_that_waits_for_longer_than_it_was_given_stands_in_the_queue_once(alice, queue):
    ask("acme", alice)
    for _ in range(3):
        sweep()
        let_time_pass("acme")

    assert len(queue.job_ids) == 1 and set(tasks("acme").values()) == {3}


def test_engines_run_for_no_longer_within_a_day_than_they_may(alice, queue):
    allow("acme", engine_seconds_a_day=100)
    scan = ask("acme", alice, 2)
    with tenant_context("acme"):
        long_ago = timezone.now() - timedelta(days=1, seconds=1)
        for started_at, seconds in ((long_ago, 1000), (timezone.now() - timedelta(hours=1), 60)):
            run = ScanRun.objects.create(scan=scan, engine="ports", fence=seconds)
            ScanRun.objects.filter(pk=run.pk).update(
                started_at=started_at, ended_at=started_at + timedelta(seconds=seconds)
            )
    sweep()
    assert len(queue.job_ids) == 1
    with tenant_context("acme"):
        ScanRun.objects.create(scan=scan, engine="tls", fence=1)
        ScanRun.objects.filter(engine="tls").update(started_at=timezone.now() - timedelta(seconds=50))
        run_scan(queue.job_ids[0])

    assert states("acme")[0] == ("blocked", "engine_seconds_used")
    sweep()
    assert states("acme")[1] == ("blocked", "engine_seconds_used")


@pytest.mark.parametrize("end", ["taken over", "put to rest"])
def test_the_engines_of_a_worker_that_died_run_no_longer_than_until_then(alice, end):
    ask("acme", alice)
    with tenant_context("acme"):
        dead = take_lease(claim_next().message_id)
        run = start_run(dead, "ports")
        if end == "put to rest":
            move(dead.scan.pk, "cancelling")
        TaskQueue.objects.update(lease_until=timezone.now() - timedelta(seconds=1), available_at=Now())
        if end == "put to rest":
            assert dispatch_next()
        else:
            assert take_lease(dead.message_id).fence == 2

        run.refresh_from_db()
        assert run.ended_at is not None and run.outcome == ""


@pytest.fixture
def own_redis(installation, tmp_path):
    with Redis(tmp_path) as server, pytest.MonkeyPatch.context() as patch:
        patch.setitem(django_settings.RQ_QUEUES["default"], "URL", server.url)
        yield server


def test_a_scan_is_accepted_while_redis_is_down_and_sent_once_it_is_back(alice, own_redis):
    own_redis.stop()
    with tenant_context("acme"):
        request_scan(target=make_target(alice), profile=profile(), user=alice)
    sweep()
    assert states("acme") == [("queued", "not_sent")] and set(tasks("acme").values()) == {1}

    own_redis.start()
    let_time_pass("acme")
    sweep()

    assert django_rq.get_queue("default").job_ids == list(tasks("acme"))
    assert states("acme") == [("dispatched", "")]


def test_while_redis_takes_no_job_nothing_more_is_claimed_in_any_tenant(alice, mallory, own_redis, monkeypatch):
    monkeypatch.setattr(dispatch, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(dispatch, "LONGEST_WAIT_SECONDS", 0.01)
    ask("acme", alice, 3)
    ask("globex", mallory, 3)
    own_redis.stop()
    looks = iter(range(20))

    run_dispatcher(lambda: next(looks, None) is None)

    assert sum([*tasks("acme").values(), *tasks("globex").values()]) == 1
    with tenant_context("acme"):
        events = ScanEvent.objects.count()
    with tenant_context("globex"):
        events += ScanEvent.objects.count()
    assert events == 2  # dispatched, and not sent


def test_when_redis_is_back_all_who_wait_are_served_from_memory(alice, mallory, own_redis, monkeypatch):
    """Neither a wake-up nor a hint nor a round over all leads there again."""
    monkeypatch.setattr(dispatch, "RETRY_SECONDS", 0.1)
    ask("acme", alice)
    ask("globex", mallory)
    own_redis.stop()
    with control_plane():
        found = iter([({}, list(Tenant.objects.values_list("pk", flat=True)))])
    monkeypatch.setattr(rounds.Rounds, "due", lambda self, asking=0: next(found, ({}, [])))
    tried = threading.Event()
    add_all = rounds.Held.add_all
    monkeypatch.setattr(rounds.Held, "add_all", lambda self, seconds: tried.set() or add_all(self, seconds))
    with dispatching():
        assert tried.wait(60)
        own_redis.start()
        wait_until(lambda: django_rq.get_queue("default").count == 2, 60)

    assert sorted(django_rq.get_queue("default").job_ids) == sorted(tasks("acme") | tasks("globex"))


def test_a_redis_that_hangs_hangs_neither_the_request_nor_the_dispatcher(alice, own_redis, monkeypatch):
    monkeypatch.setattr("tenants.wakeup.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(wakeup.connect, "__defaults__", (0.3,))
    with stopped(own_redis):
        began = time.monotonic()
        with tenant_context("acme"):
            request_scan(target=make_target(alice), profile=profile(), user=alice)
        assert wakeup.wait_for_work(0.1) == []
        sweep()
        assert time.monotonic() - began < 5

    assert states("acme") == [("queued", "not_sent")]


class stopped:
    def __init__(self, server):
        self.pid = django_rq.get_connection("default").info("server")["process_id"]

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *error):
        os.kill(self.pid, signal.SIGCONT)


def lose_all(queue):
    queue.connection.flushdb()


def lose_the_send(queue):
    queue.delete(delete_jobs=True)


@pytest.mark.parametrize("lose", [lose_all, lose_the_send])
def test_what_redis_lost_is_sent_again_after_a_while(alice, queue, lose):
    ask("acme", alice)
    sweep()
    lose(queue)
    sweep()
    assert queue.job_ids == []

    let_time_pass("acme")
    sweep()

    assert queue.job_ids == list(tasks("acme"))


def test_a_dispatcher_that_died_between_claim_and_send_loses_nothing(alice, queue):
    class Killed(BaseException):
        pass

    def die(task):
        raise Killed

    ask("acme", alice)
    with pytest.raises(Killed):
        sweep(send=die)

    let_time_pass("acme")
    sweep()

    assert queue.job_ids == list(tasks("acme")) and list(tasks("acme").values()) == [2]


def test_a_dispatcher_that_slept_since_its_claim_puts_nothing_back(alice):
    ask("acme", alice)
    with tenant_context("acme"):
        slow = claim_next()
        TaskQueue.objects.update(available_at=timezone.now() - timedelta(seconds=1))
        claim_next()
        lease = take_lease(slow.message_id)
        before = TaskQueue.objects.values().get()

        put_back(slow, 0)

        assert TaskQueue.objects.values().get() == before and lease.fence == 1


def revoke_all(target):
    for authorization in target.authorizations.all():
        revoke(authorization)


def expire_all(target):
    target.authorizations.update(expires_at=timezone.now() - timedelta(seconds=1))


REFUSALS = {
    "target_inactive": lambda target: Target.objects.update(is_active=False),
    "authorization_missing": lambda target: target.authorizations.all().delete(),
    "authorization_revoked": revoke_all,
    "authorization_stale": expire_all,
    "intrusiveness_too_high": lambda target: target.authorizations.update(intrusiveness="passive"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_scan_that_may_not_run_is_blocked_with_its_reason_and_goes_on_once_it_may(alice, queue, reason):
    ask("acme", alice)
    with tenant_context("acme"):
        ScanProfile.objects.update(engines={"http": {}})
        target = Target.objects.get()
        REFUSALS[reason](target)
    sweep()
    assert states("acme") == [("blocked", reason)] and queue.job_ids == []

    with tenant_context("acme"):
        Target.objects.update(is_active=True)
        Authorization.objects.all().delete()
        authorize(alice, target)
        reconsider_blocked_scans(target=target)
    woken = wakeup.wait_for_work(1)
    run_round(woken)

    assert states("acme") == [("dispatched", "")] and queue.job_ids == list(tasks("acme"))


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_allowed_a_scan_to_be_sent_is_looked_at_again_when_it_starts(alice, queue, reason):
    ask("acme", alice)
    with tenant_context("acme"):
        ScanProfile.objects.update(engines={"http": {}})
    sweep()
    with tenant_context("acme"):
        REFUSALS[reason](Target.objects.get())

        run_scan(str(TaskQueue.objects.get().message_id))

        assert not ScanRun.objects.exists()
    assert states("acme") == [("blocked", reason)]


def test_so_is_what_its_name_leads_to(alice, queue, settings):
    ask("acme", alice)
    sweep()
    settings.BULKHEAD_ALLOW_LOOPBACK_TARGETS = False
    with tenant_context("acme"):
        run_scan(str(TaskQueue.objects.get().message_id))

        assert not ScanRun.objects.exists()
    assert states("acme") == [("blocked", "loopback_address")]


def test_a_resolver_that_takes_long_costs_no_lease(alice, queue, settings, monkeypatch):
    """Three workers would have lost theirs, and the scan been quarantined."""
    settings.BULKHEAD_LEASE_SECONDS = 9
    answered = threading.Event()
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *args, **options: answered.wait(60) and [])
    ask("acme", alice)
    sweep()
    with tenant_context("acme"):
        began_at = time.monotonic()
        try:
            run_scan(str(TaskQueue.objects.get().message_id))
        finally:
            answered.set()
        assert time.monotonic() - began_at < settings.BULKHEAD_LEASE_SECONDS

        assert list(Scan.objects.get().events.values_list("state", "reason", "fence"))[-2:] == [
            ("running", "", 1),
            ("blocked", "unresolvable", 1),
        ]


def test_reconsidering_wakes_nobody_for_nothing_and_touches_no_running_scan(alice, queue):
    ask("acme", alice, 2)
    with tenant_context("acme"):
        lease = take_lease(claim_next().message_id)
        wakeup.wait_for_work(0)
        before = list(TaskQueue.objects.order_by("id").values())

        reconsider_blocked_scans(target=lease.scan.target)

        assert list(TaskQueue.objects.order_by("id").values()) == before
    assert wakeup.wait_for_work(0) == []


def test_a_suspended_tenant_is_passed_over_until_it_is_resumed(alice, mallory, queue, caplog):
    ask("acme", alice)
    ask("globex", mallory)
    suspend_tenant(slug="acme")
    sweep()
    run_round(["acme"])
    assert queue.job_ids == list(tasks("globex"))
    assert "acme is passed over: Tenant 'acme' is suspended." in caplog.text and "Traceback" not in caplog.text

    resume_tenant(slug="acme")
    sweep()

    assert queue.job_ids == [*tasks("globex"), *tasks("acme")]


def test_one_tenants_broken_database_does_not_stop_the_others(acme, globex, mallory, queue, installation):
    ask("globex", mallory)
    close_tenant_connections()
    if installation.engine == "sqlite":
        path = PROVISIONERS["sqlite"].path_of(acme.alias)
        path.rename(path.with_suffix(".gone"))
    else:
        installation._sql(f"REVOKE ALL ON `{acme.alias.replace('_', chr(92) + '_')}`.* FROM {runtime_user(acme)}")
    try:
        sweep()
    finally:
        if installation.engine == "sqlite":
            path.with_suffix(".gone").rename(path)
        else:
            installation._sql(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{acme.alias.replace('_', chr(92) + '_')}`.* "
                f"TO {runtime_user(acme)}"
            )

    assert queue.job_ids == list(tasks("globex"))


def runtime_user(tenant):
    with control_plane():
        return f"`{tenant.credentials.get(account='runtime').user}`@`%`"


def test_an_unreadable_control_database_ends_no_dispatcher(alice, queue, monkeypatch):
    from django.db import OperationalError

    ask("acme", alice)
    real, calls = rounds.all_tenants, []

    def flaky():
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError(2006, "gone")
        return real()

    monkeypatch.setattr(rounds, "all_tenants", flaky)
    monkeypatch.setattr(rounds, "LONGEST_WAIT_SECONDS", 0.1)
    run_dispatcher(lambda: len(queue.job_ids) == 1)

    assert queue.job_ids == list(tasks("acme"))


def test_junk_in_the_wake_up_is_passed_over(alice, queue):
    ask("acme", alice)
    with tenant_context("acme") as tenant:
        junk = {"x": 1, b"\xff" * 16: 2, "0" * 32: 3, tenant.id.hex: 4, "g" * 32: 5}
    queue.connection.zadd(wakeup.KEY, junk)

    run_round(wakeup.wait_for_work(1))

    assert queue.job_ids == list(tasks("acme"))
    queue.connection.set(wakeup.KEY, "no sorted set")
    assert wakeup.wait_for_work(0) == []


def test_a_dispatcher_hears_of_a_scan_within_a_second_and_ends_within_two_of_sigterm(alice, queue):
    allow("acme", weight=2)
    process = start("dispatch", BULKHEAD_SWEEP_SECONDS="600")
    try:
        ask("acme", alice)  # the first sweep
        wait_until(lambda: queue.job_ids)
        with tenant_context("acme"):
            asked_at = time.monotonic()
            request_scan(target=Target.objects.get(), profile=profile(), user=alice)
        wait_until(lambda: len(queue.job_ids) == 2, 5)
        assert time.monotonic() - asked_at < 1

        process.terminate()
        ended_at = time.monotonic()
        output, _ = process.communicate(timeout=10)
        assert time.monotonic() - ended_at < 2 and process.returncode == 0, output
    finally:
        process.kill()
        process.communicate()


def test_a_tenant_in_maintenance_keeps_its_scans(alice, acme, queue):
    ask("acme", alice)
    with control_plane(), transaction.atomic():
        RegistryRevision.publish([acme], state=Tenant.State.MAINTENANCE)

    log = manage("dispatch", "--once")

    assert queue.job_ids == [] and "could not be dispatched" not in log
