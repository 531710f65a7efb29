"""What random kills would leave behind, if something were lost or done twice, is told."""

from types import SimpleNamespace

import pytest

from scans.leases import take_lease
from scans.models import Finding, IdempotencyKey, Occurrence, Scan, ScanEvent, ScanRun, TaskQueue
from scans.services import request_scan
from tenants.context import tenant_context
from tests.faults.accounting import violations
from tests.faults.target import SlowTarget
from tests.scans.rows import authorize, make_finding, make_run, make_target
from tests.scans.scanning import make_profile

ENDED = {"state": "succeeded", "by": None, "reason": ""}


def lose(scan):
    Finding.objects.all().delete()
    ScanRun.objects.all().delete()
    scan.delete()


def end_again(scan):
    ScanEvent.objects.create(scan=scan, sequence=4, **ENDED)


def leave_a_gap(scan):
    Scan.objects.update(moves=4)


def leave_it_running(scan):
    Scan.objects.all().move(state="running")


def quarantine_early(scan):
    Scan.objects.all().move(state="quarantined")


def fail(scan):
    Scan.objects.all().move(state="failed")


def cancel(scan):
    Scan.objects.all().move(state="cancelled")


def leave_the_task_open(scan):
    TaskQueue.objects.update(handled_at=None)


def find_twice(scan):
    make_finding(ScanRun.objects.get(), rule_key="port.open", host="127.0.0.1", port=7)


def forget_an_occurrence(scan):
    Occurrence.objects.first().delete()


def complete_twice(scan):
    make_run(scan, engine="ports", fence=2)


def run_without_a_lease(scan):
    ScanRun.objects.update(fence=7)


def forget_the_key(scan):
    IdempotencyKey.objects.all().delete()


FAULTS = {
    forget_the_key: "0 keys are remembered, of 1",
    lose: "is lost",
    end_again: "ended 2 times",
    leave_a_gap: "have gaps",
    leave_it_running: "is stuck: running",
    quarantine_early: "quarantined after 1 attempts",
    fail: "1 scans failed, and 0 engines were killed",
    cancel: "ended as cancelled",
    leave_the_task_open: "a task is open",
    find_twice: "findings: ",
    forget_an_occurrence: "completed with 1 findings",
    complete_twice: "2 runs of scan",
    run_without_a_lease: "leases that nobody had",
}


@pytest.fixture
def ended(acme, alice):
    """A scan that was asked for once and ended once, and who asked for it."""
    with tenant_context("acme"):
        target = make_target(alice, host="127.0.0.1", ports=[1])
        authorize(target, alice)
        scan = request_scan(target=target, profile=make_profile("ports"), user=alice)
        IdempotencyKey.objects.create(created_by=alice, key="order-0", digest="")
        lease = take_lease(TaskQueue.objects.get().message_id)
        run = make_run(scan, engine="ports", fence=lease.fence)
        for rule in ("port.open", "service.telnet"):
            make_finding(run, rule_key=rule, host="127.0.0.1", port=1)
        lease.finish("succeeded")
        scan.refresh_from_db()
    return scan, SimpleNamespace(slug="acme", accepted={}, faults=[])


def account(scan, client, connections=SlowTarget.CONNECTIONS_OF_A_RUN):
    target = SlowTarget()
    target.connections = connections
    return violations(client, target, 0)


@pytest.mark.parametrize("break_it", FAULTS, ids=lambda function: function.__name__)
def test_what_was_lost_or_done_twice_is_found(ended, break_it):
    scan, client = ended
    client.accepted["order-0"] = str(scan.pk)
    assert account(scan, client) == []

    with tenant_context("acme"):
        break_it(scan)

    assert any(FAULTS[break_it] in each for each in account(scan, client)), account(scan, client)


def test_a_scan_that_nobody_was_told_of_is_found(ended):
    assert any("is nobody's" in each for each in account(*ended))


def test_a_run_of_an_engine_that_is_not_written_down_is_found(ended):
    scan, client = ended
    client.accepted["order-0"] = str(scan.pk)

    assert any("4 connections, of 1 runs" in each for each in account(scan, client, connections=4))
