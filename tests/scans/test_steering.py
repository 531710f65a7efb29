"""Members cancel, pause, resume and retry scans."""

import socket
import threading

import django_rq
import pytest
from redis import RedisError

from scans import dispatch
from scans.dispatch import sweep
from scans.leases import claim_next, take_lease
from scans.models import Scan, ScanEvent, ScanRun, TaskQueue
from scans.services import cancel_scan, pause_scan
from scans.states import move
from scans.wakeup import KEY
from tenants.audit.models import AuditEvent
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_scan, make_target
from tests.scans.scanning import make_due, make_profile, manage, start, state_of, wait_until

VERBS = ["cancel", "pause", "resume", "retry"]
ENDED = [str(state) for state in Scan.ENDED]


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        target = make_target(alice, host="127.0.0.1", ports=[1])
        authorize(target, alice)
        return target


@pytest.fixture
def scan(alice_api, target):
    with tenant_context("acme"):
        profile = make_profile("ports")
    body = {"target": str(target.pk), "profile": str(profile.pk)}
    pk = alice_api.post("/api/v1/scans/", body).json()["id"]
    with tenant_context("acme"):
        return Scan.objects.get(pk=pk)


def steer(api, scan, verb):
    answer = api.post(f"/api/v1/scans/{scan.pk}/{verb}/")
    return answer.status_code, answer.json()


def now(scan):
    with tenant_context("acme"):
        return Scan.objects.values_list("state", flat=True).get(pk=scan.pk)


def go(scan, *states):
    with tenant_context("acme"):
        for state in states:
            assert move(scan.pk, state)


def task():
    with tenant_context("acme"):
        return TaskQueue.objects.get()


def audited():
    with tenant_context("acme"):
        return list(
            AuditEvent.objects.filter(resource="scans.scan").order_by("number").values_list("action", flat=True)
        )


def sent():
    sent = []
    sweep(lambda task: sent.append(task.task_id))
    return sent


@pytest.mark.parametrize("before", [[], ["dispatched"], ["blocked"], ["paused"]], ids=" ".join)
def test_a_scan_that_has_not_started_is_cancelled_at_once(alice_api, scan, before):
    go(scan, *before)

    status, answer = steer(alice_api, scan, "cancel")

    assert (status, answer["state"]) == (200, "cancelled") and answer["ended_at"] is not None
    assert task().handled_at is not None and sent() == []
    with tenant_context("acme"):
        assert take_lease(task_id()) is None
        assert ScanEvent.objects.last().by.username == "alice"
    assert audited() == ["requested", "cancelled"]


def task_id():
    return TaskQueue.objects.values_list("message_id", flat=True).get()


def test_a_paused_scan_waits_until_it_is_resumed_and_somebody_is_woken(alice_api, scan):
    assert steer(alice_api, scan, "pause")[1]["state"] == "paused"
    assert sent() == []
    with tenant_context("acme"):
        assert take_lease(task_id()) is None
    redis = django_rq.get_connection("default")
    redis.delete(KEY)

    assert steer(alice_api, scan, "resume")[1]["state"] == "queued"

    assert redis.zcard(KEY) == 1 and sent() == [1]
    assert audited() == ["requested", "paused", "resumed"]


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_again_changes_nothing(alice_api, scan, verb):
    first = steer(alice_api, scan, verb)

    assert steer(alice_api, scan, verb) == first
    assert len(audited()) == 2
    go_on = steer(alice_api, scan, "resume")
    assert go_on[0] == (200 if verb == "pause" else 409)


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_what_has_ended_is_not_steered(alice_api, alice, target, verb, state):
    with tenant_context("acme"):
        scan = make_scan(target, alice, state=state)

    status, answer = steer(alice_api, scan, verb)

    if (verb, state) == ("cancel", "cancelled"):
        assert status == 200
    else:
        assert (status, answer["code"]) == (409, f"scan_{state}")
    assert now(scan) == state and audited() == []


@pytest.mark.parametrize("state", ["queued", "running", "pausing", "cancelling", "dispatched", "blocked"])
def test_nothing_but_a_paused_scan_is_resumed(alice_api, alice, target, state):
    with tenant_context("acme"):
        scan = make_scan(target, alice, state=state)

    assert steer(alice_api, scan, "resume")[0] == (200 if state == "queued" else 409)
    assert now(scan) == state


def test_one_that_is_cancelling_is_not_paused_and_one_that_is_pausing_may_be_cancelled(alice_api, scan):
    go(scan, "running")
    assert steer(alice_api, scan, "pause")[1]["state"] == "pausing"
    assert steer(alice_api, scan, "cancel")[1]["state"] == "cancelling"
    assert steer(alice_api, scan, "pause")[1]["code"] == "scan_cancelling"


@pytest.mark.parametrize("state", [str(state) for state in Scan.State])
def test_what_has_ended_is_tried_again_as_a_scan_of_its_own(alice_api, alice, scan, target, state):
    with tenant_context("acme"):
        old = make_scan(target, alice, state=state)

    status, answer = steer(alice_api, old, "retry")

    if state not in ENDED:
        assert (status, answer["code"]) == (409, "not_ended")
        return
    assert (status, answer["state"], answer["retry_of"]) == (202, "queued", str(old.pk))
    assert now(old) == state and sent() == [1]
    with tenant_context("acme"):
        assert TaskQueue.objects.filter(task_id=answer["number"]).count() == 1


def test_a_retry_asks_for_permission_anew(alice_api, alice, target):
    with tenant_context("acme"):
        old = make_scan(target, alice, state="failed")
        target.authorizations.all().delete()

    assert steer(alice_api, old, "retry")[1]["code"] == "authorization_missing"
    with tenant_context("acme"):
        assert Scan.objects.count() == 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_scan_is_a_missing_one(mallory_api, scan, verb):
    assert steer(mallory_api, scan, verb)[0] == 404
    assert now(scan) == "queued"


def test_a_worker_that_takes_the_lease_and_a_member_who_cancels_do_not_both_win(alice, scan, alice_api):
    """Either it never runs, or it runs and is cancelling."""
    barrier, leases = threading.Barrier(2), []

    def take():
        with tenant_context("acme"):
            message_id = task_id()
            barrier.wait()
            leases.append(take_lease(message_id))

    thread = threading.Thread(target=take)
    thread.start()
    barrier.wait()
    state = steer(alice_api, scan, "cancel")[1]["state"]
    thread.join()

    assert (leases[0] is None, state) in [(True, "cancelled"), (False, "cancelling")]
    assert now(scan) == state


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
@pytest.mark.parametrize("moment", ["require_engine_seconds", "put_back"])
def test_what_is_stopped_while_a_dispatcher_looks_at_it_stays_so(alice, scan, monkeypatch, verb, state, moment):
    """Before it is sent; and after Redis did not take it."""
    act = getattr(dispatch, moment)

    def meanwhile(*args):
        {"pause": pause_scan, "cancel": cancel_scan}[verb](scan=scan, user=alice)
        return act(*args)

    def send(task):
        sent.append(task)
        raise RedisError

    sent = []
    monkeypatch.setattr(dispatch, moment, meanwhile)
    sweep(send)

    assert now(scan) == state and len(sent) == (moment == "put_back")
    assert task().handled_at is not None or task().available_at is None


def test_a_claim_does_not_undo_a_pause_that_came_in_between(alice, scan, monkeypatch):
    first = type(TaskQueue.objects.all()).first

    def meanwhile(queryset):
        found = first(queryset)
        if found is not None and queryset.model is TaskQueue and not paused:
            paused.append(found)
            TaskQueue.objects.update(available_at=None)
        return found

    paused = []
    monkeypatch.setattr("django.db.models.query.QuerySet.first", meanwhile)
    with tenant_context("acme"):
        assert claim_next() is None and paused
    assert task().available_at is None and task().dispatches == 0


@pytest.fixture
def silent_target(alice):
    """It takes connections and never answers, so that an engine is busy with it until it is stopped."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        with tenant_context("acme"):
            target = make_target(alice, host="127.0.0.1", ports=[server.getsockname()[1]])
            authorize(target, alice)
        yield target


def test_a_running_scan_is_paused_goes_on_and_is_cancelled(alice_api, silent_target):
    with tenant_context("acme"):
        profile = make_profile("http")
    body = {"target": str(silent_target.pk), "profile": str(profile.pk)}
    pk = alice_api.post("/api/v1/scans/", body).json()["id"]
    with tenant_context("acme"):
        scan = Scan.objects.get(pk=pk)

    for verb, on_the_way, end in [("pause", "pausing", "paused"), ("cancel", "cancelling", "cancelled")]:
        steer(alice_api, scan, "resume")
        manage("dispatch", "--once")
        worker = start("worker", "--burst")
        try:
            wait_until(lambda: now(scan) == "running")
            assert steer(alice_api, scan, verb)[1]["state"] == on_the_way
            log, _ = worker.communicate(timeout=60)
        finally:
            worker.kill()
        assert state_of("acme", scan) == (end, ""), log

    assert task().handled_at is not None
    with tenant_context("acme"):
        assert list(ScanRun.objects.order_by("fence").values_list("outcome", "fence")) == [
            ("cancelled", 1),
            ("cancelled", 2),
        ]
    make_due("acme")
    assert sent() == []
