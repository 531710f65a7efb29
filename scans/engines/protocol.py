"""The lines that an engine's child writes, read as what they are: text from a process that a target may have taken."""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scans.engines.base import (
    Covered,
    EngineTarget,
    Event,
    FindingEvent,
    NotCovered,
    Progress,
    Rule,
    check_text,
    from_json,
    require,
    to_json,
)
from scans.engines.health import HealthReport

MAX_LINE = 64 * 1024
MAX_FINDINGS = 10_000
_LENGTHS = {"path": 500, "parameter": 100, "place": 100, "evidence": 4000, "message": 200, "reason": 300}


class ProtocolError(Exception):
    """A line that an engine of ours, untouched, would not write."""


@dataclass(frozen=True)
class Started:
    version: str

    def __post_init__(self) -> None:
        check_text("version", self.version, 200)


@dataclass(frozen=True)
class Unavailable:
    """The engine is not installed where the child looked for it."""


@dataclass(frozen=True)
class Done:
    """The last line of a run that went to its end."""


Line = Event | Started | Unavailable | HealthReport | Done

_KINDS: dict[str, type] = {
    "started": Started,
    "unavailable": Unavailable,
    "health": HealthReport,
    "progress": Progress,
    "finding": FindingEvent,
    "covered": Covered,
    "not_covered": NotCovered,
    "done": Done,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode_line(value: Line) -> bytes:
    return json.dumps({"kind": _NAMES[type(value)], **to_json(value)}).encode("ascii") + b"\n"


def decode_line(line: bytes) -> Line:
    """Every value is of a checked type and length, so that neither NaN nor nesting gets any further than here."""
    try:
        data = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
        require(isinstance(data, dict) and isinstance(data.get("kind"), str), "not an object with a kind")
        kind = data.pop("kind")
        require(kind in _KINDS, f"unknown kind {kind!r:.40}")
        value: Line = from_json(_KINDS[kind], data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(clean(str(error), 200)) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    require(len(data) == len(pairs), "a name is given twice")
    return data


def clean(text: str, limit: int, keep_lines: bool = False) -> str:
    """Control, format, surrogate and unassigned characters replaced (terminals and right-to-left tricks), cut."""
    cut = text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
    kept = "\n\t" if keep_lines else ""
    return "".join(c if c in kept or _is_plain(c) else "\N{REPLACEMENT CHARACTER}" for c in cut)


def _is_plain(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp")


class Transcript:
    """
    What a child has said so far, checked against what it was asked.

    ``accept`` returns the event to hand on, or ``None`` for lines that are for the runner alone, and raises
    ``ProtocolError`` for a line out of place: wrong order, an unknown rule, a port that is not the target's.
    """

    def __init__(self, rules: Mapping[str, Rule], target: EngineTarget) -> None:
        self.rules = rules
        self.target = target
        self.version = ""
        self.is_done = False
        self.is_unavailable = False
        self.health: list[HealthReport] = []
        self.covered: set[tuple[str, int]] = set()
        self.gaps: dict[tuple[str, int], str] = {}
        self.findings = 0

    def accept(self, line: bytes) -> Event | None:
        value = decode_line(line)
        if self.is_done or self.is_unavailable:
            raise ProtocolError("a line after the last one")
        if isinstance(value, Progress | FindingEvent | Covered | NotCovered):
            return self._accept_event(value)
        if isinstance(value, HealthReport):
            if len(self.health) > 1 or not self._is_about_target(value):
                raise ProtocolError("a health report out of place")
            self.health.append(value)
        elif isinstance(value, Started):
            self.version = clean(value.version, 100)
        elif isinstance(value, Unavailable):
            self.is_unavailable = True
        else:
            self.is_done = True
        return None

    def _is_about_target(self, report: HealthReport) -> bool:
        pairs = {(address, port) for address in self.target.addresses for port in self.target.ports}
        said = [*report.answered, *report.unanswered]
        return len(said) == len(pairs) and set(said) == pairs

    def _accept_event(self, event: Event) -> Event:
        if len(self.health) != 1:
            raise ProtocolError("an event outside the two health reports")
        if not isinstance(event, Progress):
            if event.rule_key not in self.rules:
                raise ProtocolError(f"unknown rule {event.rule_key}")
            if event.port not in self.target.ports:
                raise ProtocolError(f"port {event.port} is not the target's")
        if isinstance(event, FindingEvent):
            self.findings += 1
            if self.findings > MAX_FINDINGS:
                raise ProtocolError("too many findings")
        event = _cleaned(event)
        if isinstance(event, Covered):
            self.covered.add((event.rule_key, event.port))
        elif isinstance(event, NotCovered):
            self.gaps.setdefault((event.rule_key, event.port), event.reason)
        return event

    def coverage(self, failure: str) -> tuple[tuple[Covered, ...], tuple[NotCovered, ...]]:
        """Every rule on every port in exactly one of the two; after a ``failure`` nothing is covered."""
        covered: list[Covered] = []
        not_covered: list[NotCovered] = []
        for port in self.target.ports:
            for key in self.rules:
                reason = self.gaps.get((key, port)) or failure
                if not reason and (key, port) not in self.covered:
                    reason = "the engine said nothing of it"
                if reason:
                    not_covered.append(NotCovered(key, port, reason))
                else:
                    covered.append(Covered(key, port))
        return tuple(covered), tuple(not_covered)


def _cleaned(event: Event) -> Event:
    changes: dict[str, Any] = {
        name: clean(getattr(event, name), limit, keep_lines=name == "evidence")
        for name, limit in _LENGTHS.items()
        if hasattr(event, name)
    }
    return replace(event, **changes)
