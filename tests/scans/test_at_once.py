"""Members who ask for scans and steer them at the same moment: each is answered, and none is undone for another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connections, transaction

from scans import limits, services
from scans.exceptions import ScanRefused, TooManyScans
from scans.models import Target, TaskQueue
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_scan, make_target
from tests.scans.scanning import make_profile
from tests.scans.test_limits import allow, counts

TIMES = 15


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return target


@pytest.fixture
def profile(target):
    with tenant_context("acme"):
        return make_profile("ports")


def at_once(*acts):
    """What each did in a thread of its own: its answer, or the error that it met."""
    barrier = threading.Barrier(len(acts))

    def run(act):
        try:
            with tenant_context("acme"):
                barrier.wait(60)
                return act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.exception() or future.result() for future in [pool.submit(run, act) for act in acts]]


def cancel(ended, alice):
    for _ in range(TIMES):
        with pytest.raises(ScanRefused, match="succeeded"):
            services.cancel_scan(scan=ended, user=alice)


def rename(target):
    for number in range(TIMES):
        Target.objects.filter(pk=target.pk).update(name=f"shop {number}", ports=[number + 1])


def test_who_asks_and_who_cancels_do_not_wait_for_each_other_in_a_circle(alice, target, profile):
    with tenant_context("acme"):
        ended = make_scan(target, alice, state="succeeded")

    def ask():
        for _ in range(TIMES):
            services.request_scan(target=target, profile=profile, user=alice)

    assert at_once(ask, ask, lambda: cancel(ended, alice), lambda: cancel(ended, alice)) == [None] * 4
    assert counts() == (2 * TIMES + 1, 2 * TIMES)


def test_who_asks_and_who_changes_the_target_do_not_either(alice, target, profile):
    def ask():
        for _ in range(TIMES):
            services.request_scan(target=target, profile=profile, user=alice)

    assert at_once(ask, ask, lambda: rename(target), lambda: rename(target)) == [None] * 4
    assert counts() == (2 * TIMES, 2 * TIMES)


@pytest.mark.parametrize("limit", ["queued_scans", "scans_an_hour"])
def test_of_members_who_ask_at_once_as_many_are_told_yes_as_there_is_room_for(
    alice, target, profile, monkeypatch, limit
):
    allow(**{limit: 2})
    with tenant_context("acme"):
        assert limits.limit(limit) == 2  # all threads have heard of it
    barrier, may = threading.Barrier(4), services.require_permission_to_scan

    def together(*of_the_scan):
        may(*of_the_scan)
        barrier.wait(60)

    monkeypatch.setattr(services, "require_permission_to_scan", together)

    def ask():
        return services.request_scan(target=target, profile=profile, user=alice).number

    answers = at_once(ask, ask, ask, ask)

    assert sorted(answer for answer in answers if isinstance(answer, int)) == [1, 2]
    assert [type(answer) for answer in answers].count(TooManyScans) == 2
    assert counts() == (2, 2)


def test_a_scan_has_one_task(alice, target):
    with tenant_context("acme"):
        scan = make_scan(target, alice)
        TaskQueue.objects.create(task_id=scan.number)
        with pytest.raises(IntegrityError), transaction.atomic():
            TaskQueue.objects.create(task_id=scan.number)
