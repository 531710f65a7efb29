"""Runs a probe on every address and port of a target, side by side, and turns what it says into coverage."""

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from scans.engines.base import Covered, EngineTarget, Event, FindingEvent, NotCovered, Progress, Rule
from scans.engines.net import NoAnswerError

Probe = Callable[[str, int], Iterator[FindingEvent | NotCovered]]

_QUEUE_LIMIT = 1000


def sweep(target: EngineTarget, rules: Mapping[str, Rule], probe: Probe, parallel: int) -> Iterator[Event]:
    """
    Findings as they appear, then one ``Covered`` or ``NotCovered`` for each rule and port.

    A rule is covered on a port when the probe of every address ended without reporting a gap for it. A probe
    that raises has covered nothing. A place found through two addresses is one finding.
    """
    pairs = [(address, port) for port in target.ports for address in target.addresses]
    gaps: dict[tuple[str, int], str] = {}
    seen: set[FindingEvent] = set()
    done = 0
    for event in _in_threads(pairs, rules, probe, parallel):
        if isinstance(event, NotCovered):
            gaps.setdefault((event.rule_key, event.port), event.reason)
        elif isinstance(event, FindingEvent):
            identity = replace(event, evidence="", confidence="observed")
            if identity not in seen:
                seen.add(identity)
                yield event
        else:
            done += 1
            yield Progress(f"port {event} done", done, len(pairs))
    for port in target.ports:
        for key in rules:
            reason = gaps.get((key, port))
            yield Covered(key, port) if reason is None else NotCovered(key, port, reason)


def _in_threads(
    pairs: list[tuple[str, int]], rules: Mapping[str, Rule], probe: Probe, parallel: int
) -> Iterator[FindingEvent | NotCovered | int]:
    """What the probes yield, and the port's number when a probe has ended."""
    waiting: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    said: queue.Queue[FindingEvent | NotCovered | int] = queue.Queue(_QUEUE_LIMIT)
    stopped = threading.Event()
    for pair in pairs:
        waiting.put(pair)

    def work() -> None:
        while not stopped.is_set():
            try:
                address, port = waiting.get_nowait()
            except queue.Empty:
                return
            for event in _survive(address, port, rules, probe):
                said.put(event)
            said.put(port)

    for _ in range(min(parallel, len(pairs))):
        threading.Thread(target=work, daemon=True).start()
    left = len(pairs)
    try:
        while left:
            event = said.get()
            left -= isinstance(event, int)
            yield event
    finally:
        stopped.set()


def _survive(address: str, port: int, rules: Mapping[str, Rule], probe: Probe) -> Iterator[FindingEvent | NotCovered]:
    try:
        yield from probe(address, port)
    except NoAnswerError as error:
        reason = str(error)
    except Exception as error:
        # A hostile target found a fault in the probe: the trace is for us, and nothing was covered.
        traceback.print_exc(file=sys.stderr)
        reason = f"the probe failed: {type(error).__name__}"
    else:
        return
    for key in rules:
        yield NotCovered(key, port, reason)
