"""Runs engines from the worker's side: starts the child, reads it with suspicion, ends it for certain."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from scans.engines.base import (
    Covered,
    EngineTarget,
    Event,
    NotCovered,
    Progress,
    Rule,
    check_int,
    require,
    to_json,
)
from scans.engines.health import HealthReport
from scans.engines.process import ChildProcess
from scans.engines.protocol import ProtocolError, Transcript, clean

CHILD = Path(__file__).resolve().with_name("child.py")
CHILD_COMMAND = (sys.executable, "-I", "-S", "-B", str(CHILD))
OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "output_limit", "unavailable")

_POLL_SECONDS = 0.1
_ASK_SECONDS = 0.25
_HEARTBEAT_SECONDS = 0.5
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    seconds: float = 120.0
    memory_bytes: int = 512 * 1024 * 1024
    output_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        require(
            isinstance(self.seconds, int | float) and 0 < self.seconds <= 86_400,
            "seconds must be above 0, one day at most",
        )
        check_int("memory_bytes", self.memory_bytes, 64 * 1024 * 1024, 64 * 1024**3)
        check_int("output_bytes", self.output_bytes, 1024, 1024**3)


@dataclass(frozen=True)
class EngineResult:
    """
    How a run ended. ``coverage`` and ``not_covered`` together name every rule of the engine on every port once.

    An outcome other than ``completed`` covers nothing. Believe ``coverage`` only if ``healthy`` too.
    """

    outcome: str
    exit_code: int | None
    version: str
    argv: tuple[str, ...]
    coverage: tuple[Covered, ...]
    not_covered: tuple[NotCovered, ...]
    health_before: HealthReport | None
    health_after: HealthReport | None
    stderr_tail: str
    seconds: float

    @property
    def healthy(self) -> bool:
        """Every port that answered before answers after, and at least one did."""
        if self.health_before is None or self.health_after is None:
            return False
        return self.health_after.is_still(self.health_before)


def run_engine(
    engine: ModuleType,
    target: EngineTarget,
    options: Any,
    limits: Limits,
    should_stop: Callable[[], bool],
) -> Iterator[Event | EngineResult]:
    """
    Run one of ``ENGINES`` against ``target`` in a child process; the last event is the ``EngineResult``.

    Something is yielded at least every second (``Progress`` when there is no news), and ``should_stop`` is
    called at least every half second, so that a caller can renew a lease and cancel. Closing the iterator ends
    the child. Start and exhaust it in one thread: the child dies with the thread that started it.
    """
    require(isinstance(options, engine.Options), f"options must be {engine.NAME}.Options")
    if not engine.available():
        transcript = Transcript(engine.RULES, target)
        yield _result(transcript, "unavailable", f"{engine.NAME} is not installed", None, (), b"", 0.0)
        return
    request = {"engine": engine.NAME, "target": to_json(target), "options": to_json(options)}
    argv = [*CHILD_COMMAND, str(os.getpid()), str(int(limits.seconds) + 2), str(limits.memory_bytes)]
    yield from run_child(argv, json.dumps(request).encode("ascii"), engine.RULES, target, limits, should_stop)


def run_child(
    argv: Sequence[str],
    request: bytes,
    rules: Mapping[str, Rule],
    target: EngineTarget,
    limits: Limits,
    should_stop: Callable[[], bool],
) -> Iterator[Event | EngineResult]:
    """As ``run_engine``, for any program that speaks the protocol."""
    transcript = Transcript(rules, target)
    started = time.monotonic()
    failure = ("", "")
    try:
        child = ChildProcess(argv, request)
    except OSError as error:
        yield _result(transcript, "failed", f"the engine could not be started: {error}", None, tuple(argv), b"", 0.0)
        return
    with child:
        watch = _Watch(started, limits, should_stop)
        try:
            for event in _events(child, transcript, watch):
                yield event
                watch.yielded()
        except ProtocolError as error:
            failure = ("failed", f"the engine's output is not valid: {error}")
        except _StopRun as stop:
            failure = (stop.outcome, stop.reason)
        child.end()
        outcome, reason = failure if failure[0] else _natural_end(child, transcript)
        seconds = time.monotonic() - started
        yield _result(transcript, outcome, reason, child.exit_code, tuple(argv), child.stderr_tail, seconds)


class _StopRun(Exception):
    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class _Watch:
    """When to ask whether to stop, when to give up, when to show a sign of life."""

    def __init__(self, started: float, limits: Limits, should_stop: Callable[[], bool]) -> None:
        self._limits = limits
        self._deadline = started + limits.seconds
        self._should_stop = should_stop
        self._asked = 0.0
        self._yielded = started

    def check(self, bytes_read: int) -> None:
        now = time.monotonic()
        if now - self._asked >= _ASK_SECONDS:
            self._asked = now
            if self._should_stop():
                raise _StopRun("cancelled", "the run was cancelled")
        if now >= self._deadline:
            raise _StopRun("timed_out", f"the engine was stopped after {self._limits.seconds:g} s")
        if bytes_read > self._limits.output_bytes:
            raise _StopRun("output_limit", f"the engine wrote more than {self._limits.output_bytes} bytes")

    def is_silent(self) -> bool:
        return time.monotonic() - self._yielded >= _HEARTBEAT_SECONDS

    def yielded(self) -> None:
        self._yielded = time.monotonic()


def _events(child: ChildProcess, transcript: Transcript, watch: _Watch) -> Iterator[Event]:
    heartbeat = Progress("running", 0, 0)
    drain_until: float | None = None
    while not child.is_finished():
        watch.check(child.bytes_read)
        for line in child.read_lines(_POLL_SECONDS):
            event = transcript.accept(line)
            if isinstance(event, Progress):
                heartbeat = event
            if event is not None:
                yield event
            watch.check(child.bytes_read)
        if watch.is_silent():
            yield heartbeat
        if child.has_exited():
            # What is in the pipes is read; what it left running may hold them open, and ends with its group.
            drain_until = drain_until or time.monotonic() + _DRAIN_SECONDS
            if time.monotonic() > drain_until:
                return


def _natural_end(child: ChildProcess, transcript: Transcript) -> tuple[str, str]:
    if transcript.is_unavailable:
        return "unavailable", "the engine is not installed"
    if child.exit_code == 0 and transcript.is_done and len(transcript.health) == 2:
        return "completed", ""
    return "failed", f"the engine ended with exit code {child.exit_code} before it was done"


def _result(
    transcript: Transcript,
    outcome: str,
    failure: str,
    exit_code: int | None,
    argv: tuple[str, ...],
    stderr_tail: bytes,
    seconds: float,
) -> EngineResult:
    covered, not_covered = transcript.coverage(failure)
    health: list[HealthReport | None] = [*transcript.health, None, None]
    return EngineResult(
        outcome=outcome,
        exit_code=exit_code,
        version=transcript.version,
        argv=argv,
        coverage=covered,
        not_covered=not_covered,
        health_before=health[0],
        health_after=health[1],
        stderr_tail=clean(stderr_tail.decode("utf-8", "replace"), 4096, keep_lines=True),
        seconds=seconds,
    )
