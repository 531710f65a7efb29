"""A child that a target has taken may leave its group, its session and its parents: nothing of it outlives its run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scans.engines.runner import Limits
from tests.scans.engines.test_runner import BEGIN, END, child, is_running, run

ROOT = Path(__file__).resolve().parents[3]
# What a child of each kind does first: it ignores whatever can be ignored, says its number, and stays.
STAY = """
def stay():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    os.write(PIPE[1], str(os.getpid()).encode() + b" ")
    time.sleep(600)
    os._exit(0)
def told(count):
    text = b""
    while text.count(b" ") < count:
        text += os.read(PIPE[0], 100)
    say("progress", message=text.decode(), done=0, total=0)
PIPE = os.pipe()
"""
ESCAPES = {
    "a group of its own": """
if os.fork() == 0:
    os.setpgid(0, 0)
    stay()
told(1)
""",
    "a session of its own": """
if os.fork() == 0:
    os.setsid()
    stay()
told(1)
""",
    "a parent that is gone": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        stay()
    os._exit(0)
told(1)
""",
    "a tree of sessions": """
if os.fork() == 0:
    for _ in range(6):
        os.setsid() if os.getsid(0) != os.getpid() else None
        os.fork()
    stay()
told(64)
""",
    "what it executes": """
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
started.stdout.readline()
os.write(PIPE[1], b"%d " % started.pid)
told(1)
""",
}
ENDINGS = {
    "it is done": (END, Limits(seconds=60), "completed"),
    "the deadline, which it ignores": ("stay()", Limits(seconds=3), "timed_out"),
    "it dies": ("os.kill(os.getpid(), signal.SIGKILL)", Limits(seconds=60), "failed"),
}


def pids_told(events):
    return [int(number) for event in events for number in getattr(event, "message", "").split() if number.isdigit()]


@pytest.mark.parametrize(("ending", "limits", "outcome"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_nothing_that_a_child_started_outlives_its_run_wherever_it_went(escape, ending, limits, outcome):
    events, result = run(BEGIN + STAY + escape + ending, limits=limits)
    while not (pids := pids_told(events)) and limits.seconds < 60:  # a busy machine had no time for it to begin
        limits = Limits(seconds=limits.seconds * 3)
        events, result = run(BEGIN + STAY + escape + ending, limits=limits)

    assert result.outcome == outcome
    assert pids and not any(is_running(pid) for pid in pids)


def test_nothing_is_left_when_a_run_is_closed_halfway():
    events = child(BEGIN + STAY + ESCAPES["a parent that is gone"] + "time.sleep(600)")
    (pid,) = pids_told([next(events)])
    assert is_running(pid)

    events.close()

    assert not is_running(pid)


def test_no_other_process_of_the_workers_ends_with_a_run():
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE}
    with subprocess.Popen(argv, start_new_session=True, **pipes) as before:
        events = child(BEGIN + STAY + ESCAPES["a session of its own"] + "time.sleep(600)")
        (escaped,) = pids_told([next(events)])
        other_run = child(BEGIN + STAY + ESCAPES["a session of its own"] + "time.sleep(600)")
        next(other_run)
        with subprocess.Popen(argv, **pipes) as during:
            events.close()

            assert not is_running(escaped)
            assert (before.poll(), during.poll()) == (None, None)
            during.stdin.close()
        other_run.close()
        before.stdin.close()
    assert (before.returncode, during.returncode) == (0, 0)


def test_orphans_are_not_kept_once_no_engine_runs():
    run(BEGIN + END)
    leaves_one = "import os, time\npid = os.fork()\nif not pid: time.sleep(600)\nprint(pid, flush=True); os._exit(0)"

    with subprocess.Popen([sys.executable, "-c", leaves_one], stdout=subprocess.PIPE) as parent:
        orphan = int(parent.stdout.readline())
        parent.wait()
        try:
            assert f"PPid:\t{os.getpid()}\n" not in Path(f"/proc/{orphan}/status").read_text()
        finally:
            os.kill(orphan, signal.SIGKILL)


KILLED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.scans.engines.test_escapes import ESCAPES, STAY
from tests.scans.engines.test_runner import BEGIN, child
first = "import os\\nWORKER = os.getppid()\\n"
last = "while os.getppid() == WORKER: time.sleep(0.05)"
for event in child(first + BEGIN + STAY + ESCAPES["a session of its own"] + last):
    print(event.message, flush=True)
"""


def test_what_has_left_its_session_outlives_a_worker_that_is_killed():
    """Nobody is left to end it: docs/explanation/threat-model.md says so."""
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as worker:
        escaped = int(worker.stdout.readline())

        worker.kill()
        worker.wait()

        try:
            assert is_running(escaped)
        finally:
            os.kill(escaped, signal.SIGKILL)
