"""A scan whose worker dies, anywhere, ends once and has its findings once."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scans.models import Finding, Occurrence, Scan, ScanRun, TaskQueue
from tenants.context import tenant_context
from tests.scans.scanning import (
    ROOT,
    dispatch_and_work,
    environment,
    make_due,
    make_target,
    manage,
    request,
    wait_until,
    weak_target,
)

KILLING_WORKER = Path(__file__).with_name("killing_worker.py")


def points(name):
    """The keys of a dictionary in the script, which cannot be imported: it sets Django up for itself."""
    for node in ast.parse(KILLING_WORKER.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return [key.value for key in node.value.keys]
    raise AssertionError(name)


@pytest.fixture
def queued(acme, alice, tmp_path):
    """A dispatched scan of a target on which the ports engine finds two things."""
    with weak_target("webshop", tmp_path) as ready:
        with tenant_context("acme"):
            scan = request(alice, make_target(alice, ready), "ports")
        manage("dispatch", "--once")
        yield scan


def start_killing_worker(point):
    argv = [sys.executable, "-m", "tests.scans.killing_worker", point]
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment(), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def processes_of_group(group):
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _group(pid) == group]


def _group(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def assert_ended_once(scan):
    with tenant_context("acme"):
        assert Scan.objects.get(pk=scan.pk).state == "succeeded"
        assert TaskQueue.objects.filter(handled_at=None).count() == 0
        assert sorted(Finding.objects.values_list("rule_key", "state")) == [
            ("port.open", "open"),
            ("service.telnet", "open"),
        ]
        assert ScanRun.objects.exclude(outcome="").count() == 1
        finished = ScanRun.objects.exclude(outcome="").get()
        if Occurrence.objects.exclude(run=finished).count() < 2:  # killed before both were recorded
            assert Occurrence.objects.filter(run=finished).count() == 2


@pytest.mark.parametrize("point", points("POINTS"))
def test_a_scan_whose_worker_and_child_are_killed_ends_once_with_its_findings_once(queued, point):
    worker = start_killing_worker(point)
    output, _ = worker.communicate(timeout=30)
    assert worker.returncode == -signal.SIGKILL, output.decode()
    wait_until(lambda: not processes_of_group(worker.pid), 5)  # no engine outlives its worker
    with tenant_context("acme"):
        assert not Scan.objects.filter(state__in=Scan.ENDED).exists()

    make_due("acme")
    dispatch_and_work()

    assert_ended_once(queued)
    dispatch_and_work()  # and nothing is left to be done twice
    assert_ended_once(queued)


@pytest.mark.parametrize("point", points("PAUSES"))
def test_a_worker_that_wakes_up_after_a_takeover_writes_nothing_more(queued, point):
    worker = start_killing_worker(point)
    try:
        horse = wait_until(lambda: [pid for pid in processes_of_group(worker.pid) if _is_stopped(pid)])[0]
        make_due("acme")
        dispatch_and_work()
        assert_ended_once(queued)

        os.kill(horse, signal.SIGCONT)
        output, _ = worker.communicate(timeout=30)
    finally:
        worker.kill()

    assert b"no longer this worker's" in output
    assert_ended_once(queued)


def _is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
