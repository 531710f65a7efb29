"""Who may write what a scan found."""

import subprocess
import sys
import threading
from datetime import datetime
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from scans import jobs
from scans.exceptions import LeaseLost
from scans.jobs import run_scan
from scans.leases import claim_next, put_back, take_lease
from scans.models import Scan, ScanCounter, ScanProfile, ScanRun, Target, TaskQueue
from scans.recording import start_run
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.scans.scanning import ROOT, authorize, environment, make_due


@pytest.fixture
def task(alice):
    with tenant_context("acme"):
        target = Target.objects.create(name="quiet", host="127.0.0.1", ports=[1], created_by=alice)
        authorize(alice, target)
        return make_task(alice, target)


def make_task(user, target):
    profile, _ = ScanProfile.objects.get_or_create(name="ports", defaults={"engines": {"ports": {}}})
    with transaction.atomic():
        scan = Scan.objects.create(number=ScanCounter.next(), target=target, profile=profile, created_by=user)
        return TaskQueue.objects.create(task_id=scan.number)


def row():
    return TaskQueue.objects.values("fence", "lease_until", "handled_at", "available_at").get()


def test_a_lease_is_had_once_until_it_is_over(task):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)

        assert take_lease(task.message_id) is None
        assert (lease.fence, row()["fence"], Scan.objects.get().state) == (1, 1, "running")


def test_of_many_workers_at_once_one_has_the_lease(task):
    barrier, leases = threading.Barrier(4), []

    def take():
        with tenant_context("acme"):
            barrier.wait()
            leases.append(take_lease(task.message_id))
        close_tenant_connections()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(lease is None for lease in leases) == [False, True, True, True]


WRITES = {
    "write": lambda lease: lease.write().__enter__(),
    "report": lambda lease: lease.report(50, "half"),
    "finish": lambda lease: lease.finish("succeeded"),
    "give back": lambda lease: lease.give_back("blocked", "target_inactive", 60),
}


def everything():
    return [list(model.objects.order_by("pk").values()) for model in (TaskQueue, Scan, ScanRun)]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_after_a_takeover_every_write_of_the_old_lease_is_refused(task, write):
    with tenant_context("acme"):
        old = take_lease(task.message_id)
    make_due("acme")
    with tenant_context("acme"):
        new = take_lease(task.message_id)
        before = everything()

        with pytest.raises(LeaseLost):
            write(old)

        assert new.fence == 2 and everything() == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_after_its_end_a_scan_is_written_to_by_nobody(task, write):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
        lease.finish("succeeded")
        before = everything()

        with pytest.raises(LeaseLost):
            write(lease)

        assert everything() == before and take_lease(task.message_id) is None


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_lease_that_was_given_back_is_over_though_nobody_has_the_next(task, write):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
        lease.give_back("blocked", "authorization_stale", 60)
        before = everything()

        with pytest.raises(LeaseLost):
            write(lease)

        assert everything() == before and take_lease(task.message_id).fence == 2


def test_a_lease_that_has_expired_is_good_until_somebody_takes_over(task):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
    make_due("acme")
    with tenant_context("acme"):
        lease.report(50, "half")

        assert take_lease(task.message_id) is None  # the report has renewed it
        assert Scan.objects.get().progress == 50


def test_what_is_written_under_a_lease_that_is_lost_meanwhile_is_not_kept(task):
    """The row stays locked to the commit: a takeover waits, and then finds the lease renewed."""
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
        with pytest.raises(RuntimeError), lease.write():
            start_run(lease, "ports")
            raise RuntimeError

        assert ScanRun.objects.count() == 0


def test_a_write_renews_the_lease_and_keeps_dispatchers_away(task):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
        make_due_here()
        with lease.write():
            pass

        assert row()["lease_until"] == row()["available_at"] and claim_next() is None


def make_due_here():
    past = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    TaskQueue.objects.update(available_at=past, lease_until=past)


def test_a_scan_that_is_given_back_is_blocked_and_due_again_later(task):
    with tenant_context("acme"):
        lease = take_lease(task.message_id)
        lease.give_back("blocked", "authorization_stale", 60)

        assert Scan.objects.values_list("state", "reason").get() == ("blocked", "authorization_stale")
        assert row()["lease_until"] is None and claim_next() is None
        assert take_lease(task.message_id).fence == 2


def test_a_scan_ends_with_its_task(task):
    with tenant_context("acme"):
        take_lease(task.message_id).finish("partial", "not_covered")

        scan = Scan.objects.get()
        assert (scan.state, scan.reason, scan.progress) == ("partial", "not_covered", 100)
        assert scan.started_at <= scan.ended_at and row()["handled_at"] is not None


def test_no_clock_of_the_worker_enters_the_decision(task):
    with tenant_context("acme"):
        with CaptureQueriesContext(connection) as queries:
            put_back(claim_next(), 0)
            lease = take_lease(task.message_id)
            lease.report(1, "")
            lease.give_back("blocked", "x", 0)
            take_lease(task.message_id).finish("succeeded")
        updates = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]

    updates = [sql for sql in updates if "taskqueue" in sql]
    assert len(updates) == 9 and not [sql for sql in updates if f"'{datetime.now().year}-" in sql]


FAST_CLOCK = """
import time, datetime
from datetime import timedelta
import django; django.setup()
from django.utils import timezone
time.time = lambda real=time.time: real() + 7200
timezone.now = lambda real=timezone.now: real() + timedelta(hours=2)
from uuid import UUID
from scans.leases import take_lease
from tenants.context import tenant_context
with tenant_context("acme"):
    print(take_lease(UUID("%s")))
"""


def test_a_worker_whose_clock_is_two_hours_ahead_takes_nobodys_lease(task, settings):
    settings.BULKHEAD_LEASE_SECONDS = 600
    with tenant_context("acme"):
        assert take_lease(task.message_id) is not None

    done = subprocess.run(
        [sys.executable, "-c", FAST_CLOCK % task.message_id],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "None\n", done.stderr


def test_a_job_that_carries_another_message_than_its_id_is_refused(task, monkeypatch, caplog):
    monkeypatch.setattr(jobs, "get_current_job", lambda: SimpleNamespace(id=str(uuid4())))

    with tenant_context("acme"):
        run_scan(str(task.message_id))

        assert row()["fence"] == 0 and "carries the message" in caplog.text


def test_another_tenants_message_is_refused(task, globex):
    """The same scan number and the same row id in both, as the outbox counts from one in each."""
    with tenant_context("globex"):
        assert take_lease(task.message_id) is None
        run_scan(str(task.message_id))
    with tenant_context("acme"):
        assert row()["fence"] == 0


def test_a_lease_kept_from_one_tenant_touches_nothing_in_the_next(task, mallory):
    """Row, scan number and fence are the same in both."""
    with tenant_context("globex"):
        target = Target.objects.create(name="theirs", host="127.0.0.1", ports=[1], created_by=mallory)
        theirs = make_task(mallory, target)
        TaskQueue.objects.update(id=task.pk)
        lease = take_lease(theirs.message_id)
        assert lease.scan.target.name == "theirs"

    with tenant_context("acme"):
        assert take_lease(task.message_id).fence == lease.fence
        before = everything()
        for write in WRITES.values():
            with pytest.raises(LeaseLost):
                write(lease)
        theirs.fence = 1
        put_back(theirs, 0)
        assert everything() == before
