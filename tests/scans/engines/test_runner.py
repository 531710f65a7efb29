"""The runner against children that misbehave: real processes that speak the protocol, or do not."""

import json
import os
import signal
import statistics
import sys
import time

import pytest

from scans.engines.base import Covered, EngineTarget, FindingEvent, Progress, Rule, rule_table
from scans.engines.runner import EngineResult, Limits, run_child

RULES = rule_table(Rule("a.one", "One", "low", 79, "-"))
TARGET = EngineTarget("127.0.0.1", ("127.0.0.1",), (80,), "Bulkhead test")
BEGIN = """
import json, os, signal, subprocess, sys, time
def say(kind, **values):
    print(json.dumps({"kind": kind, **values}), flush=True)
def health(*ports):
    say("health", answered=[["127.0.0.1", p] for p in ports], unanswered=[["127.0.0.1", p] for p in {80} - {*ports}])
def finding():
    say("finding", rule_key="a.one", scheme="http", port=80, method="GET", path="/", parameter="", place="body",
        evidence="seen", confidence="verified")
say("started", version="1")
health(80)
"""
END = """
health(80)
say("done")
"""


def child(body, limits=None, should_stop=lambda: False, request=b"{}"):
    argv = [sys.executable, "-I", "-S", "-c", body]
    return run_child(argv, request, RULES, TARGET, limits or Limits(seconds=20), should_stop)


def run(body, **options):
    *events, result = child(body, **options)
    assert isinstance(result, EngineResult)
    return events, result


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid):
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def pid_told(events):
    return int(next(event.message for event in events if event.message.isdigit()))


TELL_PID = 'say("progress", message=str(os.getpid()), done=0, total=0)\n'


def test_an_orderly_run_is_completed_with_its_findings_and_coverage():
    events, result = run(BEGIN + 'finding()\nsay("covered", rule_key="a.one", port=80)' + END)

    assert [type(event) for event in events] == [FindingEvent, Covered]
    assert (result.outcome, result.exit_code, result.version, result.healthy) == ("completed", 0, "1", True)
    assert result.coverage == (Covered("a.one", 80),)
    assert result.not_covered == ()


@pytest.mark.parametrize(
    "bad",
    [
        "print('hello')",
        "print('[' * 50000)",
        "print('x' * 70000)",
        "sys.stdout.write('y' * 200000); sys.stdout.flush(); time.sleep(60)",
        'say("covered", rule_key="b.other", port=80)',
        'say("covered", rule_key="a.one", port=81)',
    ],
)
def test_a_bad_line_fails_the_run_and_keeps_the_findings_before_it(bad):
    covered = 'say("covered", rule_key="a.one", port=80)\n'
    events, result = run(BEGIN + "finding()\n" + covered + bad + END)

    assert isinstance(events[0], FindingEvent)
    assert result.outcome == "failed"
    assert result.coverage == ()
    assert "not valid" in result.not_covered[0].reason


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BEGIN, 0),
        (BEGIN + "health(80)", 0),
        (BEGIN + 'say("done")', 0),
        (BEGIN + "raise RuntimeError('\\x1b[31mboom')", 1),
        (BEGIN + END + "sys.exit(3)", 3),
        (BEGIN + "os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("", 0),
    ],
)
def test_a_child_that_ends_before_it_is_done_has_failed_and_covers_nothing(body, code):
    events, result = run(body)

    assert (result.outcome, result.exit_code, result.coverage) == ("failed", code, ())
    assert "\x1b" not in result.stderr_tail
    assert ("boom" in result.stderr_tail) == ("boom" in body)


def test_the_target_is_unhealthy_when_a_port_no_longer_answers():
    body = BEGIN + 'say("covered", rule_key="a.one", port=80)\nhealth()\nsay("done")'

    events, result = run(body)

    assert result.outcome == "completed"
    assert not result.healthy


def test_a_target_that_never_answered_is_not_healthy():
    body = BEGIN.replace("health(80)\n", "health()\n") + 'health()\nsay("done")'

    events, result = run(body)

    assert result.outcome == "completed"
    assert not result.healthy


def test_a_child_that_is_silent_and_ignores_term_is_killed_at_the_deadline():
    body = BEGIN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TELL_PID + "time.sleep(60)"
    started = time.monotonic()

    events, result = run(body, limits=Limits(seconds=1.5))

    assert result.outcome == "timed_out"
    assert result.exit_code == -signal.SIGKILL
    assert time.monotonic() - started < 4
    assert wait_until_gone(pid_told(events))


def test_a_child_that_obeys_term_may_end_by_itself():
    handler = "signal.signal(signal.SIGTERM, lambda *_: (sys.stderr.write('tidied up'), sys.exit(0)))\n"
    ready = "say('progress', message='ready', done=0, total=0)\ntime.sleep(60)"
    asked = []

    events, result = run(BEGIN + handler + ready, should_stop=lambda: asked.append(1) or len(asked) > 4)

    assert result.outcome == "cancelled"
    assert result.exit_code == 0


def test_a_cancelled_run_ends_within_a_second_and_leaves_no_process():
    asked = []
    started = time.monotonic()

    events, result = run(BEGIN + TELL_PID + "time.sleep(60)", should_stop=lambda: asked.append(1) or len(asked) > 3)

    assert result.outcome == "cancelled"
    assert time.monotonic() - started < 2.5
    assert wait_until_gone(pid_told(events))


def usual_gap(moments):
    """The median: a busy machine may hold this process itself up for half a second, once."""
    return statistics.median(b - a for a, b in zip(moments, moments[1:], strict=False))


def test_a_silent_child_still_gives_a_sign_of_life_each_second_and_is_asked_for_each_half_second():
    asked, yielded = [], []
    for _event in child(BEGIN + "time.sleep(3)" + END, should_stop=lambda: asked.append(time.monotonic()) and False):
        yielded.append(time.monotonic())

    assert usual_gap(yielded) < 1.0
    assert usual_gap(asked) < 0.5
    assert len(yielded) >= 3 and len(asked) >= 6  # in three seconds


def test_a_talkative_child_is_asked_for_too():
    asked = []
    body = BEGIN + "while True: say('progress', message='x', done=0, total=0)"

    events, result = run(body, should_stop=lambda: asked.append(time.monotonic()) or len(asked) > 3)

    assert result.outcome == "cancelled"
    assert usual_gap(asked) < 0.5


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_is_stopped_at_the_output_limit(stream):
    line = '{"kind": "progress", "message": "x", "done": 0, "total": 0}'
    body = BEGIN + f"while True: sys.{stream}.write({line!r} + chr(10))"

    events, result = run(body, limits=Limits(seconds=20, output_bytes=100_000))

    assert result.outcome == "output_limit"
    assert len(result.stderr_tail) <= 4096


def test_a_grandchild_that_holds_the_pipes_open_is_killed_with_its_group():
    grandchild = """
p = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
say("progress", message=str(p.pid), done=0, total=0)
"""
    started = time.monotonic()

    events, result = run(BEGIN + grandchild + END)

    assert result.outcome == "completed"
    assert time.monotonic() - started < 5
    assert wait_until_gone(pid_told(events))


def test_a_child_that_closes_its_output_and_lives_on_is_ended_at_the_deadline():
    body = BEGIN + TELL_PID + "os.close(1); os.close(2); time.sleep(60)"

    events, result = run(body, limits=Limits(seconds=1.5))

    assert result.outcome == "timed_out"
    assert wait_until_gone(pid_told(events))


def test_closing_the_iterator_ends_the_child():
    events = child(BEGIN + TELL_PID + "time.sleep(60)")
    pid = int(next(events).message)
    assert is_running(pid)

    events.close()

    assert wait_until_gone(pid)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_should_stop_ends_the_child_and_reaches_the_caller(error):
    asked = []

    def should_stop():
        asked.append(1)
        if len(asked) > 2:
            raise error
        return False

    events, pid = child(BEGIN + TELL_PID + "time.sleep(60)", should_stop=should_stop), None
    with pytest.raises(error):
        for event in events:
            pid = pid or int(event.message)

    assert wait_until_gone(pid)


def test_a_program_that_cannot_be_started_is_a_failed_run():
    *_, result = run_child(["/no/such/program"], b"", RULES, TARGET, Limits(), lambda: False)

    assert result.outcome == "failed"
    assert "could not be started" in result.not_covered[0].reason


def test_a_child_gets_no_secret_no_descriptor_and_no_terminal_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY", "canary")
    monkeypatch.setenv("PATH", f".::relative:{os.environ['PATH']}")
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(secret, True)
    body = BEGIN + (
        "seen = [dict(os.environ), sorted(os.listdir('/proc/self/fd')), os.getcwd(), os.getsid(0) == os.getpid()]\n"
        'say("progress", message="x", done=0, total=0)\n'
        "sys.stderr.write(json.dumps(seen))" + END
    )

    events, result = run(body)
    os.close(secret)

    environment, descriptors, directory, is_leader = json.loads(result.stderr_tail)
    assert set(environment) <= {"PATH", "LANG", "LC_CTYPE"}
    assert all(entry.startswith("/") for entry in environment["PATH"].split(":"))
    assert descriptors == ["0", "1", "2", "3"]  # the third is the listing itself
    assert (directory, is_leader) == ("/", True)


def test_a_request_larger_than_a_pipe_does_not_block_the_runner_when_the_child_does_not_read():
    events, result = run(BEGIN + END, request=b"x" * 500_000)

    assert result.outcome == "completed"


def test_the_sign_of_life_repeats_the_last_progress():
    body = BEGIN + 'say("progress", message="port 80", done=1, total=4)\ntime.sleep(1.5)' + END

    events, result = run(body)

    assert set(events) == {Progress("port 80", 1, 4)}
    assert len(events) > 2
