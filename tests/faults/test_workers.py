"""Workers and engines die, hang, wake up late or talk nonsense."""

import os
import signal
import time
from pathlib import Path

import pytest

from scans.models import Occurrence, ScanRun
from tenants.context import login_context, tenant_context
from tenants.services import resume_tenant, suspend_tenant
from tests.faults.processes import end, wait_until

pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
# An engine that would go on for eight seconds if nobody ended it.
LONG: dict = {"seconds": 8, "profile": {"ports": {"wait_ms": 10_000}}}
FAKES = {
    "prints nonsense": "#!/bin/sh\necho '<nmaprun><host><ports><port portid=7'",
    "crashes": "#!/bin/sh\necho '<nmaprun>'; kill -SEGV $$",
    "fails": "#!/bin/sh\nexit 3",
}


def is_gone(pid):
    """Killed, whether somebody has reaped it or not."""
    return lambda: state_of(pid) in ("", "Z")


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.long
@pytest.mark.parametrize("whom", ["worker and child", "child", "worker"])
def test_a_scan_whose_worker_is_killed_is_taken_over(service, fault, whom):
    measured = fault(f"{whom} killed", "taken over within 60 s, recorded once; no engine left after 5 s")
    service.start(dispatchers=1, workers=2, **LONG)
    service.ask()
    engine = service.wait_for_engine()
    service.targets["acme"].seconds = 0.3  # whoever asks from now on
    [horse] = service.processes.horses()
    [name] = [each for each in service.processes.names("worker") if service.processes.horses_of(each)]
    if whom != "child":
        service.processes.kill(name)
    if whom != "worker":
        assert end(horse)
        gone = service.seconds_until(is_gone(engine), 5)
    took = service.wait_for_end()

    service.assert_all_once()
    assert len(service.leases()) == (1 if whom == "worker" else 2)
    measured(
        f"its child ended the scan under its lease after {took:.1f} s"
        if whom == "worker"
        else f"engine gone after {gone:.2f} s, taken over and ended after {took:.1f} s (lease 2 s)"
    )


@pytest.mark.long
def test_a_worker_that_was_stopped_beyond_its_lease_writes_nothing_more(service, fault):
    measured = fault(
        "worker, child and engine stopped beyond the lease", "taken over; late writes refused; engine stopped"
    )
    service.start(dispatchers=1, workers=2, **LONG)
    service.ask()
    engine = service.wait_for_engine()
    service.targets["acme"].seconds = 0.3  # whoever asks from now on
    [horse] = service.processes.horses()
    [name] = [each for each in service.processes.names("worker") if service.processes.horses_of(each)]
    stopped = [service.processes.running[name].pid, horse, engine]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    took = service.wait_for_end()
    before = service.written()
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    gone = service.seconds_until(is_gone(engine), 5)
    assert wait_until(is_gone(horse), 20)

    assert service.written() == before and service.leases() == [1, 2]
    assert "no longer this worker's" in service.processes.log(name).read_text()
    service.assert_all_once()
    measured(f"ended by another after {took:.1f} s; woken, its engine was gone after {gone:.2f} s; 0 rows changed")


@pytest.mark.long
def test_an_engine_that_hangs_and_ignores_term_is_killed_when_its_scan_is_cancelled(service, fault):
    measured = fault("engine hangs and takes no TERM", "its lease goes on; killed when its scan is cancelled")
    service.start(dispatchers=1, workers=1, seconds=0.9)
    service.ask()
    engine = service.wait_for_engine()
    os.kill(engine, signal.SIGSTOP)  # and so takes no TERM
    time.sleep(5)  # longer than a lease
    assert service.leases() == [1]
    [scan] = service.clients["acme"].accepted.values()
    assert service.clients["acme"].ask("POST", f"/api/v1/scans/{scan}/cancel/")[0] == 200

    gone = service.seconds_until(is_gone(engine), 5)
    service.wait_for_end(5)

    assert service.states() == [("cancelled", "")]
    assert not service.processes.engines()
    measured(f"gone {gone:.1f} s after it was cancelled; scan cancelled")


@pytest.mark.long
@pytest.mark.parametrize("how", FAKES)
def test_an_engine_that_fails_is_never_clean_and_what_others_found_is_kept(service, fault, tmp_path, how):
    measured = fault(f"engine's program {how}", "never clean; what was found is kept")
    fake = tmp_path / "nmap"
    fake.write_text(FAKES[how])
    fake.chmod(0o755)
    service.start(dispatchers=1, workers=1, profile={"ports": {}, "nmap": {}}, first_in_path=str(tmp_path))
    service.ask()
    service.wait_for_end()

    [(state, reason)] = service.states()
    with tenant_context("acme"):
        runs = {run.engine: run for run in ScanRun.objects.all()}
        found = Occurrence.objects.filter(run=runs["ports"]).count()
    assert (state, found) == ("partial", 2), (state, reason)
    assert runs["nmap"].coverage == [] and runs["nmap"].not_covered
    measured(f"{state} ({reason}), run {runs['nmap'].outcome}, 0 rules covered, 2 findings kept")


@pytest.mark.long
def test_an_engine_that_is_killed_fails_its_run(service, fault):
    measured = fault("engine killed", "the run is failed, never clean; no takeover needed")
    service.start(dispatchers=1, workers=1, seconds=0.9)
    service.ask()
    assert end(service.wait_for_engine())
    took = service.wait_for_end()

    assert service.states() == [("failed", "failed")]
    measured(f"failed after {took:.1f} s")


@pytest.mark.long
def test_a_scan_that_ends_its_workers_is_quarantined_and_others_flow(service, fault):
    measured = fault("a scan whose worker dies each time", "quarantined after three; others flow")
    service.start(dispatchers=1, workers=2, seconds=0.9)
    service.ask("acme")
    poison = service.targets["acme"]
    began_at = time.monotonic()
    for _ in range(3):
        assert poison.was_asked.wait(30)
        service.ask("globex")
        assert service.processes.kill_worker_of(poison.port)
        poison.was_asked.clear()
    took_others = service.wait_for_end()

    assert service.states("acme") == [("quarantined", "workers_died")] and service.leases("acme") == [1, 2, 3]
    service.assert_all_once("globex")
    measured(f"quarantined {time.monotonic() - began_at:.1f} s after its first start; 3 of 3 others succeeded")
    assert took_others < 60


@pytest.mark.long
def test_a_suspended_tenants_engines_are_stopped_and_nothing_is_written_afterwards(service, fault):
    measured = fault("tenant suspended during a scan", "engines stopped within 5 s, nothing written afterwards")
    service.start(dispatchers=1, workers=1, **LONG)
    service.ask()
    engine = service.wait_for_engine()
    suspend_tenant(slug="acme")
    try:
        gone = service.seconds_until(is_gone(engine), 5)
        assert wait_until(lambda: not service.processes.horses(), 5)
        before = service.written()
        time.sleep(10)  # several leases, sweeps and hints
        assert service.written() == before and not service.processes.engines()
        [(state, reason)] = service.states()
        with login_context("acme"):
            assert list(ScanRun.objects.values_list("outcome", flat=True)) == ["cancelled"]
    finally:
        resume_tenant(slug="acme")
    measured(f"engine gone after {gone:.1f} s, scan {state} ({reason}); 0 rows written in the next 10 s")


@pytest.mark.parametrize("hours", [-2, pytest.param(2, marks=pytest.mark.long)])
def test_a_workers_clock_does_not_matter(service, fault, clock, hours):
    measured = fault(f"workers' clocks {hours:+d} hours off", "leases by database time: held, and taken over, as ever")
    wrong = {"LD_PRELOAD": clock, "FAULTS_CLOCK": str(hours * 3600)}
    service.start(dispatchers=1, workers=2, worker_only=wrong, **LONG)
    service.ask()
    service.wait_for_engine()
    service.targets["acme"].seconds = 0.3  # whoever asks from now on
    time.sleep(6)  # three leases, and a dispatcher has looked
    assert service.leases() == [1]
    assert service.processes.kill_worker_of(service.targets["acme"].port)
    took = service.wait_for_end()

    assert service.leases() == [1, 2] and service.states() == [("succeeded", "")]
    service.assert_all_once()
    measured(f"held for three leases; its worker killed, taken over and ended after {took:.1f} s")
