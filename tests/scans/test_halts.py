"""Operators halt scans: in one tenant or in all, of one engine or of all."""

import pytest

from scans.dispatch import sweep
from scans.jobs import run_scan
from scans.models import Scan, ScanRun, TaskQueue
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tenants.exceptions import WorkHaltedError
from tenants.halts import require_still_served
from tenants.models import Halt
from tests.scans.rows import authorize
from tests.scans.rows import make_target as quiet_target
from tests.scans.scanning import make_due, make_profile, manage, request, start, state_of, wait_until
from tests.scans.test_coverage_and_closing import Site, site_was_asked, target_of
from tests.tenants.test_commands import run

HALTED = {
    "everywhere": [],
    "in this tenant": ["--tenant", "acme"],
    "this engine": ["--engine", "ports"],
    "this engine in this tenant": ["--engine", "ports", "--tenant", "acme"],
}
NOT_HALTED = {
    "in another tenant": ["--tenant", "globex"],
    "another engine": ["--engine", "tls"],
    "this engine in another tenant": ["--engine", "ports", "--tenant", "globex"],
}


@pytest.fixture
def ask(acme, globex, alice_api, alice):
    with tenant_context("acme"):
        target = quiet_target(alice, host="127.0.0.1", ports=[1])
        authorize(target, alice)
        body = {"target": str(target.pk), "profile": str(make_profile("ports", "http").pk)}
    return lambda: alice_api.post("/api/v1/scans/", body)


def states():
    with tenant_context("acme"):
        return list(Scan.objects.values_list("state", "reason"))


def send(sent):
    sweep(send=sent.append)


def work(sent):
    """A worker whose job was sent before."""
    with tenant_context("acme"):
        run_scan(str(TaskQueue.objects.get().message_id))


@pytest.mark.parametrize("take", [send, work], ids=["sent", "started"])
@pytest.mark.parametrize("where", HALTED.values(), ids=HALTED.keys())
def test_no_scan_is_sent_or_started_while_it_is_halted(ask, where, take):
    run("halt_scans", *where)
    sent = []

    assert ask().status_code == 202
    take(sent)

    assert sent == [] and states() == [("blocked", "halted")]
    with tenant_context("acme"):
        assert not ScanRun.objects.exists()
    assert run("resume_scans", *where) == "1 ended; 0 left.\n"
    make_due("acme")
    send(sent)
    assert len(sent) == 1 and states() == [("dispatched", "")]


@pytest.mark.parametrize("where", NOT_HALTED.values(), ids=NOT_HALTED.keys())
def test_other_scans_go_on(ask, where):
    run("halt_scans", *where)
    ask()
    sent = []

    send(sent)

    assert len(sent) == 1


def test_what_was_halted_twice_is_resumed_for_each(ask):
    run("halt_scans")
    run("halt_scans", "--tenant", "acme", "--engine", "http")
    ask()

    assert run("resume_scans") == "1 ended; 1 left.\n"
    send([])
    assert states() == [("blocked", "halted")]


def test_what_was_halted_and_why_is_recorded(installation):
    run("halt_scans", "--now", "--reason", "The engine crashes targets")

    with control_plane():
        event = AuditEvent.objects.filter(resource="tenants.halt").latest("number")
        assert event.changes["reason"] == [None, "The engine crashes targets"]
        assert event.changes["stops_running"] == [None, True]


def test_what_runs_goes_on_unless_it_is_to_be_stopped(acme, globex):
    def asked_in(slug, *kinds):
        with tenant_context(slug):
            require_still_served(kinds)

    run("halt_scans")
    asked_in("acme", "ports")
    run("halt_scans", "--now", "--engine", "ports")
    asked_in("acme", "tls")
    for slug in ("acme", "globex"):
        with pytest.raises(WorkHaltedError):
            asked_in(slug, "tls", "ports")


def test_a_running_scan_is_silent_within_five_seconds_and_goes_on_when_it_is_resumed(alice):
    with Site() as site:
        site.delay = 1.0
        target = target_of(alice, site.ready)
        with tenant_context("acme"):
            scan = request(alice, target, "http")
        manage("dispatch", "--once")
        worker = start("worker", "--burst")
        try:
            wait_until(lambda: site_was_asked(scan))
            run("halt_scans", "--now")
            wait_until(lambda: state_of("acme", scan) == ("blocked", "halted"), 5 + 1)
            log, _ = worker.communicate(timeout=20)
        finally:
            worker.kill()
            worker.communicate()

        run("resume_scans")
        site.delay = 0
        make_due("acme")
        manage("dispatch", "--once")
        manage("worker", "--burst")
        assert state_of("acme", scan)[0] in ("succeeded", "partial"), log
    with control_plane():
        assert not Halt.objects.exists()
