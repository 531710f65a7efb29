import json

import pytest

from scans.engines.base import Covered, EngineTarget, FindingEvent, NotCovered, Progress, Rule, rule_table
from scans.engines.health import HealthReport
from scans.engines.protocol import (
    MAX_FINDINGS,
    Done,
    ProtocolError,
    Started,
    Transcript,
    Unavailable,
    clean,
    decode_line,
    encode_line,
)

RULES = rule_table(Rule("a.one", "One", "low", 79, "-"), Rule("a.two", "Two", "low", 79, "-"))
TARGET = EngineTarget("127.0.0.1", ("127.0.0.1",), (80, 81), "Bulkhead test")
HEALTH = HealthReport((("127.0.0.1", 80),), (("127.0.0.1", 81),))
FINDING = FindingEvent("a.one", "http", 80, "GET", "/", "", "body", "seen", "verified")


def transcript(*values):
    transcript = Transcript(RULES, TARGET)
    for value in (Started("1"), HEALTH, *values):
        transcript.accept(encode_line(value).rstrip())
    return transcript


@pytest.mark.parametrize(
    "value", [Started("1"), Unavailable(), HEALTH, Progress("x", 0, 1), FINDING, Covered("a.one", 80), Done()]
)
def test_a_line_reads_as_what_was_written(value):
    assert decode_line(encode_line(value).rstrip()) == value


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"kind": 1}',
        b'{"kind": "exec"}',
        b'{"kind": ["done"]}',
        b'{"kind": "done", "x": 1}',
        b'{"kind": "done"} {"kind": "done"}',
        b'{"kind": "done", "kind": "done"}',
        b'{"kind": "progress", "message": "x", "done": NaN, "total": 1}',
        b'{"kind": "progress", "message": "x", "done": 1e3, "total": 1}',
        b'{"kind": "progress", "message": "x", "done": true, "total": 1}',
        b'{"kind": "progress", "message": "x", "done": ' + b"9" * 5000 + b', "total": 1}',
        b'{"kind": "covered", "rule_key": "a.one", "port": "80"}',
        b'{"kind": "covered", "rule_key": {"a": 1}, "port": 80}',
        b'{"kind": "covered", "rule_key": ["a.one"], "port": 80}',
        b'{"kind": "health", "answered": [[["x"]]], "unanswered": []}',
        b'{"kind": "health", "answered": [[{}, 80]], "unanswered": []}',
        b'{"kind": "health", "answered": 7, "unanswered": []}',
        b'{"kind": "covered", "rule_key": ' + b"[" * 500 + b"]" * 500 + b', "port": 80}',
        b'{"kind": "health", "answered": ' + b"[" * 500 + b"]" * 500 + b', "unanswered": []}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
)
def test_a_line_that_no_engine_of_ours_writes_is_refused(line):
    with pytest.raises(ProtocolError):
        decode_line(line)


@pytest.mark.parametrize(
    "value",
    [
        FindingEvent("a.three", "http", 80, "GET", "/", "", "body", "seen", "verified"),
        FindingEvent("a.one", "http", 82, "GET", "/", "", "body", "seen", "verified"),
        Covered("a.three", 80),
        Covered("a.one", 443),
        NotCovered("a.one", 443, "x"),
        HealthReport((("127.0.0.2", 80),), (("127.0.0.1", 81),)),
        HealthReport((("127.0.0.1", 80),), ()),
        HealthReport((("127.0.0.1", 80),), (("127.0.0.1", 80),)),
    ],
)
def test_what_was_not_asked_for_is_refused(value):
    with pytest.raises(ProtocolError):
        transcript(value)


def test_events_before_the_first_health_report_or_after_the_second_are_refused():
    with pytest.raises(ProtocolError):
        Transcript(RULES, TARGET).accept(encode_line(FINDING).rstrip())
    with pytest.raises(ProtocolError):
        transcript(HEALTH, FINDING)
    with pytest.raises(ProtocolError):
        transcript(HEALTH, Done(), Done())


def test_a_third_health_report_is_refused():
    with pytest.raises(ProtocolError):
        transcript(HEALTH, HEALTH)


def test_too_many_findings_are_refused():
    with pytest.raises(ProtocolError, match="too many"):
        transcript(*[FINDING] * (MAX_FINDINGS + 1))


def test_text_is_cut_and_its_control_characters_are_replaced():
    nasty = "\x1b[31mred\x00\u202egnp.exe\u2028\ud800\r" + "x" * 10_000
    line = encode_line(FindingEvent("a.one", "http", 80, "GET", nasty, nasty, nasty, "two\nlines" + nasty, "verified"))

    event = transcript().accept(line.rstrip())

    assert (len(event.path), len(event.parameter), len(event.place), len(event.evidence)) == (500, 100, 100, 4000)
    for text in (event.path, event.parameter, event.place, event.evidence.replace("\n", "")):
        assert text.startswith(("\ufffd[31mred\ufffd\ufffdgnp.exe\ufffd\ufffd\ufffdx", "twolines\ufffd[31mred"))
    assert event.evidence.startswith("two\nlines")


def test_harmless_text_of_any_language_stays_as_it_is():
    assert clean("Grüße, 世界, мир, 👋 {}<>&", 100) == "Grüße, 世界, мир, 👋 {}<>&"


def test_every_rule_and_port_is_either_covered_or_not_and_silence_is_not():
    result = transcript(Covered("a.one", 80), Covered("a.two", 80), NotCovered("a.two", 80, "cut"), HEALTH, Done())

    covered, not_covered = result.coverage("")

    assert covered == (Covered("a.one", 80),)
    assert not_covered == (
        NotCovered("a.two", 80, "cut"),
        NotCovered("a.one", 81, "the engine said nothing of it"),
        NotCovered("a.two", 81, "the engine said nothing of it"),
    )


def test_after_a_failure_nothing_is_covered():
    covered, not_covered = transcript(Covered("a.one", 80)).coverage("timed out")

    assert covered == ()
    assert {(item.rule_key, item.port) for item in not_covered} == {
        (key, port) for key in RULES for port in TARGET.ports
    }


def test_lines_are_plain_ascii_whatever_the_engine_found():
    line = encode_line(Progress("Grüße\u2028\ud800", 0, 0))

    assert line.isascii()
    assert json.loads(line)["message"] == "Grüße\u2028\ud800"
