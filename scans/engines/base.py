"""What goes into an engine and what comes out of it: plain values that check themselves and survive JSON."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar

SEVERITIES = ("info", "low", "medium", "high", "critical")
CONFIDENCES = ("inferred", "observed", "verified", "executed")
SCHEMES = ("tcp", "tls", "http", "https")
METHODS = ("", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST")

MAX_ADDRESSES = 8
MAX_PORTS = 1024
MAX_CA_PEM = 256 * 1024
MAX_TEXT = 16 * 1024

_RULE_KEY = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*", re.ASCII)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)

T = TypeVar("T")


class EngineInputError(ValueError):
    """A value that an engine is not started with, or that its output is not believed with."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise EngineInputError(message)


def check_int(name: str, value: object, low: int, high: int) -> None:
    require(
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"{name} must be a whole number from {low} to {high}, not {value!r:.60}",
    )


def check_text(name: str, value: object, limit: int = MAX_TEXT) -> None:
    require(isinstance(value, str) and len(value) <= limit, f"{name} must be text of at most {limit} characters")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    require(isinstance(value, str) and value in choices, f"{name} must be one of {choices}, not {value!r:.60}")


def check_rule_key(value: object) -> None:
    require(
        isinstance(value, str) and len(value) <= 100 and _RULE_KEY.fullmatch(value) is not None,
        f"not a rule key: {value!r:.60}",
    )


def is_literal_address(text: object) -> bool:
    """True for the canonical spelling of an address, without a zone."""
    try:
        return isinstance(text, str) and "%" not in text and str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True)
class EngineTarget:
    """
    What may be touched: ``ports`` of ``addresses``, and nothing else.

    ``host`` is only ever spoken (SNI, Host header, certificate name), never resolved: addresses were resolved
    and approved before. ``ca_pem`` adds trust anchors to those of the system.
    """

    host: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    user_agent: str
    ca_pem: str = ""

    def __post_init__(self) -> None:
        check_text("host", self.host, 253)
        require(
            _HOST_NAME.fullmatch(self.host) is not None or is_literal_address(self.host),
            f"host must be a lower-case host name or a literal address, not {self.host!r:.60}",
        )
        _check_tuple("addresses", self.addresses, str, MAX_ADDRESSES)
        for address in self.addresses:
            require(is_literal_address(address), f"not a literal address: {address!r:.60}")
        _check_tuple("ports", self.ports, int, MAX_PORTS)
        for port in self.ports:
            check_int("port", port, 1, 65535)
        check_text("user_agent", self.user_agent, 200)
        require(
            self.user_agent.isascii() and self.user_agent.isprintable() and self.user_agent != "",
            "user_agent must be printable ASCII text",
        )
        check_text("ca_pem", self.ca_pem, MAX_CA_PEM)


def _check_tuple(name: str, value: object, kind: type, limit: int) -> None:
    require(isinstance(value, tuple) and 0 < len(value) <= limit, f"{name} must hold 1 to {limit} values")
    assert isinstance(value, tuple)
    require(all(isinstance(item, kind) for item in value), f"{name} must hold {kind.__name__} values")
    require(len(set(value)) == len(value), f"{name} must not repeat a value")


@dataclass(frozen=True)
class Rule:
    """A weakness that engines look for. ``key`` is part of a finding's identity: never rename one."""

    key: str
    title: str
    severity: str
    cwe: int
    remediation: str

    def __post_init__(self) -> None:
        check_rule_key(self.key)
        check_text("title", self.title, 200)
        check_choice("severity", self.severity, SEVERITIES)
        check_int("cwe", self.cwe, 1, 9999)
        check_text("remediation", self.remediation, 2000)


@dataclass(frozen=True)
class Progress:
    message: str
    done: int
    total: int

    def __post_init__(self) -> None:
        check_text("message", self.message)
        check_int("done", self.done, 0, 10**9)
        check_int("total", self.total, 0, 10**9)


@dataclass(frozen=True)
class FindingEvent:
    """Everything but ``evidence`` and ``confidence`` is the finding's identity, together with the target's host."""

    rule_key: str
    scheme: str
    port: int
    method: str
    path: str
    parameter: str
    place: str
    evidence: str
    confidence: str

    def __post_init__(self) -> None:
        check_rule_key(self.rule_key)
        check_choice("scheme", self.scheme, SCHEMES)
        check_int("port", self.port, 1, 65535)
        check_choice("method", self.method, METHODS)
        for name in ("path", "parameter", "place", "evidence"):
            check_text(name, getattr(self, name))
        check_choice("confidence", self.confidence, CONFIDENCES)


@dataclass(frozen=True)
class Covered:
    """``rule_key`` was tested completely, at every place on ``port``: its absence there is evidence."""

    rule_key: str
    port: int

    def __post_init__(self) -> None:
        check_rule_key(self.rule_key)
        check_int("port", self.port, 1, 65535)


@dataclass(frozen=True)
class NotCovered:
    """``rule_key`` may be there or not: nobody can tell, for ``reason``."""

    rule_key: str
    port: int
    reason: str

    def __post_init__(self) -> None:
        check_rule_key(self.rule_key)
        check_int("port", self.port, 1, 65535)
        check_text("reason", self.reason)


Event = Progress | FindingEvent | Covered | NotCovered


def rule_table(*rules: Rule) -> dict[str, Rule]:
    table = {rule.key: rule for rule in rules}
    require(len(table) == len(rules), "a rule key is used twice")
    return table


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as what ``json.dumps`` takes; ``from_json`` is its inverse (tuples become lists and come back)."""
    require(is_dataclass(value), f"{type(value).__name__} has no JSON form")
    return {field.name: getattr(value, field.name) for field in fields(value)}


def from_json(kind: type[T], data: object) -> T:
    """Refuses unknown and missing names and wrong types; names that have a default may be missing."""
    if not isinstance(data, Mapping):
        raise EngineInputError(f"{kind.__name__} must be an object, not {type(data).__name__}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(known))
    require(not unknown, f"{kind.__name__} has no {', '.join(map(repr, unknown))!s:.100}")
    missing = [n for n, field in known.items() if n not in data and field.default is MISSING]
    require(not missing, f"{kind.__name__} lacks {', '.join(missing)}")
    return kind(**{name: _tupled(value) for name, value in data.items()})


def _tupled(value: object) -> object:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
