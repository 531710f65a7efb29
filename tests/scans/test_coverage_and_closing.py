"""Absence closes a finding only where an engine looked, completely, on a healthy target. Real engines and targets."""

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from scans import jobs
from scans.engines.base import Progress
from scans.engines.runner import Limits
from scans.jobs import run_scan
from scans.models import Finding, Scan, ScanRun, Target, TaskQueue
from scans.targets import revoke
from scans.weak_targets.server import Lifetime, Reply, SiteApp, WebServer
from tenants.context import tenant_context
from tenants.services import resume_tenant, suspend_tenant
from tests.scans.scanning import make_target, manage, request, start, state_of, wait_until, weak_target

ADDRESS = "127.0.0.31"


class Site:
    """A web server whose flaws can be mended, and whose answers can be made slow, while it runs."""

    def __init__(self):
        self.is_weak, self.delay = True, 0.0
        self.server = WebServer((ADDRESS, 0), SiteApp(self.answer), Lifetime(None))
        self.ready = {
            "name": "site",
            "address": ADDRESS,
            "ports": {"http": self.server.server_address[1]},
            "ca_pem": "",
        }

    def answer(self, request):
        time.sleep(self.delay)
        if request.path == "/.env" and self.is_weak:
            return Reply("DB_PASSWORD=hunter2\nSECRET_KEY=abcdef\n", content_type="text/plain")
        if request.path == "/":
            return Reply("<h1>Hello</h1>")
        return Reply("not here", status=404)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site():
    with Site() as site:
        yield site


def scan(user, target, *engines):
    """In this process, from the request to its end."""
    with tenant_context("acme"):
        scan = request(user, target, *engines)
        run_scan(str(TaskQueue.objects.get(task_id=scan.number).message_id))
        return Scan.objects.get(pk=scan.pk)


def target_of(user, ready):
    with tenant_context("acme"):
        return make_target(user, ready)


def found(state="open"):
    with tenant_context("acme"):
        return set(Finding.objects.filter(state=state).values_list("rule_key", "path"))


def outcomes(scan):
    with tenant_context("acme"):
        return set(ScanRun.objects.filter(scan=scan).values_list("outcome", "is_healthy"))


def test_what_was_mended_is_closed_and_opened_again_when_it_comes_back(alice, site):
    target = target_of(alice, site.ready)
    first = scan(alice, target, "http")
    before = found()
    assert ("http.exposed.env", "/.env") in before and first.state in ("succeeded", "partial")

    site.is_weak = False
    scan(alice, target, "http")
    assert found("fixed") == {("http.exposed.env", "/.env")} and found() == before - found("fixed")

    site.is_weak = True
    scan(alice, target, "http")
    assert found() == before
    with tenant_context("acme"):
        assert Finding.objects.get(rule_key="http.exposed.env").version == 3


def test_an_engine_that_does_not_look_for_it_closes_nothing(alice, site):
    target = target_of(alice, site.ready)
    scan(alice, target, "http")
    before = found()
    site.is_weak = False

    scan(alice, target, "ports")

    assert before <= found() and found("fixed") == set()


@pytest.fixture
def webshop_base():
    with socket.socket() as probe:
        probe.bind(("127.0.0.11", 0))
        return min(probe.getsockname()[1], 65_000)


@pytest.mark.parametrize("requests", [1, 8, 25])
def test_a_target_that_dies_in_mid_scan_closes_nothing(alice, tmp_path, webshop_base, requests):
    base = ["--port-base", str(webshop_base)]
    with weak_target("webshop", tmp_path, *base) as ready:
        target = target_of(alice, ready)
        scan(alice, target, "ports", "tls", "http")
    before = found()
    assert len(before) > 6

    with weak_target("webshop", tmp_path, *base, "--die-after", str(requests)) as ready:
        second = scan(alice, target, "ports", "tls", "http")
        ready["process"].wait(10)

    assert second.state in ("partial", "failed") and second.reason
    assert found("fixed") == set() and before <= found()


def test_a_target_that_listens_no_more_closes_nothing(alice, site):
    target = target_of(alice, site.ready)
    scan(alice, target, "http", "ports")
    before = found()
    with tenant_context("acme"):
        port = site.ready["ports"]["http"]
        Target.objects.update(ports=[port - 1 if port > 2000 else port + 1])
        Finding.objects.update(port=port - 1 if port > 2000 else port + 1)
        target.refresh_from_db()

    second = scan(alice, target, "http", "ports")

    assert (second.state, second.reason) == ("partial", "target_unhealthy")
    assert found() == before and found("fixed") == set()


@contextmanager
def engine_killed(monkeypatch, site):
    run_engine = jobs.run_engine

    def killing(*args, **kwargs):
        for event in run_engine(*args, **kwargs):
            if isinstance(event, Progress):
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
            yield event

    monkeypatch.setattr(jobs, "run_engine", killing)
    site.delay = 5.0  # it is still at work when it is killed, however late this process is to hear of it
    yield "failed"
    site.delay = 0


@contextmanager
def engine_too_slow(monkeypatch, site):
    site.delay = 0.5
    monkeypatch.setattr(jobs, "LIMITS", Limits(seconds=1.5))
    yield "timed_out"
    site.delay = 0


@contextmanager
def engine_too_talkative(monkeypatch, site):
    monkeypatch.setattr(jobs, "LIMITS", Limits(output_bytes=1024))
    yield "output_limit"


def children():
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_engine(entry) and _parent(entry) == os.getpid()
    ]


def _is_engine(entry):
    try:
        return b"child.py" in (entry / "cmdline").read_bytes()
    except OSError:
        return False


def _parent(entry):
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.parametrize("trouble", [engine_killed, engine_too_slow, engine_too_talkative])
def test_an_engine_that_does_not_come_to_its_end_closes_nothing(alice, site, monkeypatch, trouble):
    target = target_of(alice, site.ready)
    scan(alice, target, "http")
    before = found()
    site.is_weak = False

    with trouble(monkeypatch, site) as outcome:
        second = scan(alice, target, "http")

    assert (second.state, second.reason) == ("failed", outcome) and {one for one, _ in outcomes(second)} == {outcome}
    assert found() == before and children() == []


def withdraw():
    with tenant_context("acme"):
        revoke(Target.objects.get().authorizations.get())


def expire():
    with tenant_context("acme"):
        Target.objects.get().authorizations.update(expires_at="2020-01-01T00:00:00Z")


def retire():
    with tenant_context("acme"):
        Target.objects.update(is_active=False)


WITHDRAWALS = {
    "authorization_revoked": withdraw,
    "authorization_stale": expire,
    "target_inactive": retire,
    "tenant_suspended": lambda: suspend_tenant(slug="acme"),
}


@pytest.mark.parametrize("reason", WITHDRAWALS)
def test_a_running_scan_stops_within_five_seconds_of_its_withdrawal(alice, site, reason):
    site.delay = 1.0
    target = target_of(alice, site.ready)
    with tenant_context("acme"):
        asked = request(alice, target, "http", "ports")
    manage("dispatch", "--once")
    worker = start("worker", "--burst")
    try:
        wait_until(lambda: state_of("acme", asked)[0] == "running")
        wait_until(lambda: site_was_asked(asked))

        WITHDRAWALS[reason]()
        withdrawn_at = time.monotonic()
        output, _ = worker.communicate(timeout=20)
        took = time.monotonic() - withdrawn_at
    finally:
        worker.kill()
        worker.communicate()

    if reason == "tenant_suspended":
        resume_tenant(slug="acme")
    assert state_of("acme", asked) == ("partial", reason), output
    assert took < 5 + 1, output  # and the worker's own end
    with tenant_context("acme"):
        assert list(ScanRun.objects.values_list("engine", "outcome")) in (
            [("http", "cancelled")],
            [("ports", "completed"), ("http", "cancelled")],
        )


def site_was_asked(scan):
    with tenant_context("acme"):
        return ScanRun.objects.filter(scan=scan, engine="http").exists()
