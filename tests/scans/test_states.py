"""How scans go from state to state, and what tells of it."""

import threading

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from scans.dispatch import dispatch_next, sweep
from scans.exceptions import LeaseLost
from scans.leases import ATTEMPTS, WAITS_AT_MOST, take_lease
from scans.models import Scan, TaskQueue
from scans.recording import start_run
from scans.services import request_scan
from scans.states import COMES_FROM, move
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, tenant_context
from tenants.models import RegistryRevision, Tenant
from tests.scans.rows import authorize, make_scan, make_target
from tests.scans.scanning import make_due, make_profile

STATES = [str(state) for state in Scan.State]


@pytest.fixture
def scan(alice):
    with tenant_context("acme"):
        target = make_target(alice, host="127.0.0.1", ports=[1])
        authorize(target, alice)
        return request_scan(target=target, profile=make_profile("ports"), user=alice)


def message_id():
    return TaskQueue.objects.values_list("message_id", flat=True).get()


def told(scan):
    return list(scan.events.values_list("sequence", "state", "reason", "by__username", "fence"))


@pytest.mark.parametrize("before", STATES)
def test_a_scan_goes_where_its_state_leads_and_nowhere_else(alice, before):
    with tenant_context("acme"):
        target = make_target(alice)
        for to in STATES:
            scan = make_scan(target, alice, state=before, reason="as it was")
            leads_there = before in COMES_FROM[to]

            assert move(scan.pk, to, reason="now") == leads_there, to
            assert Scan.objects.values_list("state", "reason", "moves").get(pk=scan.pk) == (
                (to, "now", 1) if leads_there else (before, "as it was", 0)
            )
            assert told(scan) == ([(1, to, "now", None, None)] if leads_there else [])


def test_what_has_ended_leads_nowhere():
    assert not [state for state in COMES_FROM.values() if set(state) & set(Scan.ENDED)]
    assert set(COMES_FROM) == set(STATES)


def test_a_state_is_written_with_its_event_or_not_at_all(scan):
    with tenant_context("acme"):
        for write in (
            lambda: Scan.objects.update(state="failed"),
            lambda: Scan.objects.filter(pk=scan.pk).update(state="failed", progress=1),
            lambda: Scan.objects.bulk_update([Scan(pk=scan.pk, state="failed")], ["state"]),
            lambda: scan.save(update_fields=["state"]),
        ):
            with pytest.raises(TypeError, match="scans.states.move"):
                write()
        with transaction.atomic():
            move(scan.pk, "dispatched")
            transaction.set_rollback(True)

        assert Scan.objects.get().state == "queued" and told(scan) == [(1, "queued", "", "alice", None)]


def test_of_moves_at_once_one_happens_and_is_told(scan):
    barrier, moved = threading.Barrier(4), []

    def go(to):
        with tenant_context("acme"):
            barrier.wait()
            moved.append(move(scan.pk, to))
        close_tenant_connections()

    threads = [threading.Thread(target=go, args=[to]) for to in ("cancelled", "expired") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with tenant_context("acme"):
        assert sorted(moved) == [False, False, False, True]
        assert [event[1] for event in told(scan)] == ["queued", Scan.objects.get().state]


def test_it_is_told_who_moved_a_scan(scan, alice):
    with tenant_context("acme"):
        dispatch_next(lambda task: None)
        take_lease(message_id()).give_back("blocked", "unresolvable", 0)
        take_lease(message_id()).finish("succeeded")

        assert told(scan) == [
            (1, "queued", "", "alice", None),
            (2, "dispatched", "", None, None),
            (3, "running", "", None, 1),
            (4, "blocked", "unresolvable", None, 1),
            (5, "running", "", None, 2),
            (6, "succeeded", "", None, 2),
        ]


def test_a_takeover_is_told_under_its_own_lease(scan):
    with tenant_context("acme"):
        take_lease(message_id())
        first_start = Scan.objects.get().started_at
    make_due("acme")
    with tenant_context("acme"):
        take_lease(message_id())

        moves = [(state, by, fence) for _, state, _, by, fence in told(scan)]
        assert moves == [("queued", "alice", None), ("running", None, 1), ("running", None, 2)]
        assert Scan.objects.get().started_at == first_start


def test_a_scan_that_ends_its_workers_is_quarantined_after_three_and_the_others_flow(scan, alice):
    with control_plane(), transaction.atomic():
        RegistryRevision.publish(Tenant.objects.filter(slug="acme"), limits={"weight": 2})
    with tenant_context("acme"):
        other = request_scan(target=scan.target, profile=scan.profile, user=alice)
        poison, good = TaskQueue.objects.order_by("id").values_list("message_id", flat=True)
    for attempt in range(ATTEMPTS):
        sweep(lambda task: None)
        with tenant_context("acme"):
            assert take_lease(poison).fence == attempt + 1  # and its worker dies
        make_due("acme")
    sent = []

    sweep(lambda task: sent.append(task.message_id))

    with tenant_context("acme"):
        assert told(scan)[-1][1:3] == ("quarantined", "workers_died") and sent == [good]
        assert take_lease(poison) is None
        assert TaskQueue.objects.get(message_id=poison).handled_at is not None
        assert Scan.objects.get(pk=scan.pk).ended_at is not None
        take_lease(good).finish("succeeded")
        assert Scan.objects.get(pk=other.pk).state == "succeeded"


def test_a_worker_takes_no_fourth_lease_before_a_dispatcher_has_looked(scan):
    for _ in range(ATTEMPTS):
        with tenant_context("acme"):
            assert take_lease(message_id()) is not None
        make_due("acme")

    with tenant_context("acme"):
        assert take_lease(message_id()) is None


def test_leases_that_are_given_back_are_no_attempts(scan):
    with tenant_context("acme"):
        for _ in range(ATTEMPTS + 1):
            take_lease(message_id()).give_back("blocked", "unresolvable", 0)

        assert take_lease(message_id()) is not None


@pytest.mark.parametrize(
    ("given", "meanwhile", "end"),
    [
        (("paused",), ["pausing", "cancelling"], "cancelled"),
        (("blocked", "halted", 60), ["cancelling"], "cancelled"),
        (("blocked", "halted", 60), ["pausing"], "paused"),
    ],
    ids=lambda each: " ".join(map(str, each)) if not isinstance(each, str) else each,
)
def test_what_a_member_asks_for_while_a_lease_is_given_back_is_done(scan, given, meanwhile, end):
    with tenant_context("acme"):
        lease = take_lease(message_id())
        for state in meanwhile:
            move(scan.pk, state)

        lease.give_back(*given)

        task = TaskQueue.objects.get()
        assert Scan.objects.get().state == end and task.lease_until is None
        assert (task.handled_at is None) == (task.available_at is None) == (end == "paused")


def test_a_worker_that_was_given_up_writes_nothing_more(scan):
    for _ in range(ATTEMPTS):
        with tenant_context("acme"):
            lease = take_lease(message_id())
        make_due("acme")
    sweep(lambda task: None)

    with tenant_context("acme"):
        with pytest.raises(LeaseLost):
            lease.finish("succeeded")
        assert Scan.objects.get().state == "quarantined"


def test_a_scan_that_waited_for_a_week_expires_with_what_it_waited_for(scan):
    with tenant_context("acme"):
        scan.target.authorizations.all().delete()
    sweep(lambda task: None)
    make_due("acme")
    with tenant_context("acme"):
        assert Scan.objects.get().state == "blocked"
        Scan.objects.update(created_at=scan.created_at - WAITS_AT_MOST)

    sweep(lambda task: None)

    with tenant_context("acme"):
        assert told(scan)[-1][1:3] == ("expired", "authorization_missing")
        assert TaskQueue.objects.get().handled_at is not None


def test_so_does_one_that_was_refused_at_its_start_each_time(scan):
    with tenant_context("acme"):
        take_lease(message_id()).give_back("blocked", "unresolvable", 0)
        Scan.objects.update(created_at=scan.created_at - WAITS_AT_MOST)

    sweep(lambda task: None)

    with tenant_context("acme"):
        assert told(scan)[-1][1:3] == ("expired", "unresolvable")


def test_one_that_has_begun_expires_no_more(scan):
    with tenant_context("acme"):
        lease = take_lease(message_id())
        start_run(lease, "ports")
        lease.give_back("blocked", "engine_seconds_used", 0)
        Scan.objects.update(created_at=scan.created_at - WAITS_AT_MOST)

    sweep(lambda task: None)

    with tenant_context("acme"):
        assert Scan.objects.get().state == "dispatched"


def test_a_scan_that_may_not_run_is_looked_at_less_and_less_often(scan):
    with tenant_context("acme"):
        scan.target.authorizations.all().delete()
        waits = []
        for _ in range(5):
            assert dispatch_next()
            waits.append((TaskQueue.objects.get().available_at - timezone.now()).total_seconds())
            TaskQueue.objects.update(available_at=Now())
    assert [round(wait, -1) for wait in waits] == [60, 120, 240, 300, 300]


@pytest.mark.parametrize(("wish", "end"), [("pausing", "paused"), ("cancelling", "cancelled")])
def test_what_a_dead_worker_was_to_do_is_done_without_it(scan, wish, end):
    with tenant_context("acme"):
        late = take_lease(message_id())
        move(scan.pk, wish)
    make_due("acme")
    with tenant_context("acme"):
        assert take_lease(message_id()) is None
    sent = []

    sweep(sent.append)

    with tenant_context("acme"):
        assert Scan.objects.get().state == end and sent == []
        with pytest.raises(LeaseLost):
            late.report(50, "")
