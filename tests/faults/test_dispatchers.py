"""Dispatchers die around the hand-over, stand still, or are many: exactly one effect."""

import os
import signal
import subprocess
import sys
import time

import django_rq
import pytest

from config.env import PROJECT
from tests.faults.test_workers import state_of
from tests.serving import environment_of

pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
MUST = "exactly one effect"


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_dispatcher_killed_around_the_hand_over_has_one_effect(service, fault, moment):
    measured = fault(f"dispatcher killed {moment} it enqueues", MUST)
    service.start(dispatchers=0, workers=0)
    service.ask()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.killing_dispatcher", moment],
        cwd=PROJECT, env=environment_of(service.installation), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert django_rq.get_queue("default").count == (moment == "after")

    service.processes.add("dispatcher-0")
    service.processes.add("worker-0")
    took = service.wait_for_end()

    assert service.leases() == [1]
    service.assert_all_once()
    measured(f"1 lease, 1 end, after {took:.1f} s")


@pytest.mark.long
def test_five_dispatchers_at_once_send_each_task_once(service, fault):
    measured = fault("five dispatchers at once", MUST)
    service.start(dispatchers=5, workers=2)
    service.ask("acme", 5)
    service.ask("globex", 5)
    took = service.wait_for_end()

    for slug in ("acme", "globex"):
        assert service.leases(slug) == [1] * 5
        service.assert_all_once(slug)
    sent = sum(service.dispatches("acme") + service.dispatches("globex"))
    measured(f"10 scans, 10 leases, sent {sent} times, after {took:.1f} s")


@pytest.mark.long
def test_a_dispatcher_that_was_paused_does_nothing_twice(service, fault):
    """What it had locked when it was paused stays locked meanwhile: its tenant may wait for it."""
    measured = fault("dispatcher paused for 5 s and resumed", MUST)
    service.start(dispatchers=2, workers=1)
    service.ask("acme", 3)
    service.ask("globex", 3)
    paused = service.processes.running["dispatcher-0"].pid
    os.kill(paused, signal.SIGSTOP)
    time.sleep(5)
    ended_meanwhile = sum(state == "succeeded" for slug in ("acme", "globex") for state, _ in service.states(slug))
    os.kill(paused, signal.SIGCONT)
    service.ask("acme")
    took = service.wait_for_end()

    assert service.leases("acme") == [1] * 4 and service.leases("globex") == [1] * 3
    service.assert_all_once("acme")
    service.assert_all_once("globex")
    measured(f"7 scans, 7 leases; {ended_meanwhile} of 6 ended while it was paused, all {took:.1f} s after")


@pytest.mark.long
def test_a_dispatcher_that_stands_still_inside_its_claim_loses_its_locks(service, fault):
    measured = fault("dispatcher stopped inside its claim (limit / 15)", "its tenant goes on; exactly one effect")
    service.start(dispatchers=0, workers=1)
    service.ask()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killing_dispatcher", "inside"],
        cwd=PROJECT, env=environment_of(service.installation), stderr=subprocess.PIPE, text=True,
    ) as stopped:  # fmt: skip
        try:
            service.seconds_until(lambda: state_of(stopped.pid) == "T")
            service.processes.add("dispatcher-0")
            began_at = time.monotonic()
            service.ask()
            accepted = time.monotonic() - began_at
            took = service.wait_for_end()
            os.kill(stopped.pid, signal.SIGCONT)
            said = stopped.communicate(timeout=30)[1]
        finally:
            stopped.kill()

    assert "could not be dispatched" in said and "OperationalError" in said
    assert service.leases() == [1, 1]
    service.assert_all_once()
    measured(f"another scan accepted after {accepted:.1f} s, both ended {took:.1f} s later; woken, it wrote nothing")
