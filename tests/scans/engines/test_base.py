import dataclasses
import json

import pytest

from scans.engines import ENGINES
from scans.engines.base import (
    SEVERITIES,
    Covered,
    EngineInputError,
    EngineTarget,
    FindingEvent,
    NotCovered,
    Progress,
    Rule,
    from_json,
    to_json,
)
from scans.engines.health import HealthReport

TARGET = EngineTarget("shop.example", ("192.0.2.1", "2001:db8::1"), (80, 443), "Bulkhead scan 7", "pem")
FINDING = FindingEvent("http.exposed.env", "http", 80, "GET", "/.env", "", "file", "seen", "verified")
VALUES = [
    TARGET,
    Rule("a.b-c", "Title", "low", 79, "Repair it."),
    Progress("half", 1, 2),
    FINDING,
    Covered("a.b", 80),
    NotCovered("a.b", 80, "timed out"),
    HealthReport((("192.0.2.1", 80),), (("192.0.2.1", 443),)),
    *(engine.Options() for engine in ENGINES.values()),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__module__ + type(value).__name__)
def test_a_value_survives_json(value):
    text = json.dumps(to_json(value))

    assert from_json(type(value), json.loads(text)) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("host", "Shop.example"),
        ("host", "-shop.example"),
        ("host", "shop.example\r\nX: y"),
        ("host", "shop example"),
        ("host", "user@shop.example"),
        ("host", 7),
        ("addresses", ()),
        ("addresses", ["192.0.2.1"]),
        ("addresses", "192.0.2.1"),
        ("addresses", ("shop.example",)),
        ("addresses", ("127.1",)),
        ("addresses", ("--script=x",)),
        ("addresses", ("192.0.2.0/24",)),
        ("addresses", ("fe80::1%eth0",)),
        ("addresses", ("192.0.2.1", "192.0.2.1")),
        ("addresses", ({},)),
        ("addresses", tuple(f"192.0.2.{n}" for n in range(9))),
        ("ports", ()),
        ("ports", (0,)),
        ("ports", (65536,)),
        ("ports", (True,)),
        ("ports", ("80",)),
        ("ports", (80, 80)),
        ("ports", tuple(range(1, 1026))),
        ("user_agent", ""),
        ("user_agent", "a\r\nHost: evil"),
        ("user_agent", "ä"),
        ("user_agent", "a" * 201),
        ("ca_pem", None),
    ],
)
def test_a_target_that_is_not_exactly_one_is_refused(name, value):
    with pytest.raises(EngineInputError):
        dataclasses.replace(TARGET, **{name: value})


@pytest.mark.parametrize(
    "change", [{"extra": 1}, {"host": None}, {"addresses": "x"}, {"ports": [[80]]}, {"ports": {"80": 1}}]
)
def test_json_that_is_no_target_is_refused(change):
    with pytest.raises(EngineInputError):
        from_json(EngineTarget, {**to_json(TARGET), **change})


@pytest.mark.parametrize("data", [None, [], "x", 7, {}, {"host": "shop.example"}])
def test_json_without_the_needed_names_is_refused(data):
    with pytest.raises(EngineInputError):
        from_json(EngineTarget, data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rule_key", "Http.Env"),
        ("rule_key", "a b"),
        ("rule_key", "a" * 101),
        ("scheme", "gopher"),
        ("port", -1),
        ("method", "get"),
        ("path", None),
        ("evidence", b"x"),
        ("evidence", "x" * 20_000),
        ("confidence", "certain"),
    ],
)
def test_a_finding_of_another_shape_is_refused(name, value):
    with pytest.raises(EngineInputError):
        dataclasses.replace(FINDING, **{name: value})


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_options_take_numbers_within_bounds_and_listed_words_only(engine):
    for option in dataclasses.fields(engine.Options):
        for bad in (-1, 10**9, True, None, "--script=x", 1.5):
            with pytest.raises(EngineInputError):
                engine.Options(**{option.name: bad})


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_has_the_same_shape(engine):
    assert ENGINES[engine.NAME] is engine
    assert engine.INTRUSIVENESS in ("passive", "safe_active")
    assert all(rule.key == key and rule.severity in SEVERITIES for key, rule in engine.RULES.items())
    assert isinstance(engine.available(), bool)


def test_a_rule_key_means_one_rule_whichever_engine_finds_it():
    rules = [rule for engine in ENGINES.values() for rule in engine.RULES.values()]

    assert len(set(rules)) == len({rule.key for rule in rules})
    assert list(ENGINES) == ["ports", "tls", "http", "nmap"]
