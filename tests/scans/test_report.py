"""The report says what was found, and says loudly what was not covered."""

import re
from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from django.utils import timezone

from scans.engines import ENGINES
from scans.models import Finding, Scan, ScanProfile
from scans.report import UNHEALTHY, make_visible, render_report
from tenants.context import tenant_context
from tests.scans.rows import make_finding, make_run, make_scan, make_target

NOT_CLEAN = "What was not covered is not clean."
COMPLETE = "Everything that the profile asks for was tested."
LOADING = {"script", "iframe", "object", "embed", "link", "form", "img", "base", "svg", "video", "audio", "input"}


class Page(HTMLParser):
    """Tags, attributes, and the text that a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words = set(), [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())
        self.styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def in_acme(acme):
    with tenant_context("acme"):
        yield


@pytest.fixture
def scan(alice, in_acme):
    now = timezone.now()
    return make_scan(
        make_target(alice, ports=[443]),
        alice,
        state=Scan.State.SUCCEEDED,
        progress=100,
        started_at=now - timedelta(seconds=42),
        ended_at=now,
    )


def cover(engine, ports=(443,)):
    return [[rule, port] for rule in ENGINES[engine].RULES for port in ports]


def run_completely(scan, *engines):
    return [make_run(scan, engine, coverage=cover(engine)) for engine in engines]


def page_of(scan):
    return Page(render_report(Scan.objects.get(pk=scan.pk)))


def test_a_complete_report_names_target_time_requester_profile_and_engines(scan):
    run_completely(scan, "ports", "tls", "http")

    text = page_of(scan).text

    assert COMPLETE in text
    assert NOT_CLEAN not in text
    assert "Web shop (shop.example.com)" in text.replace("( ", "(").replace(" )", ")")
    assert "alice, " in text
    assert "standard" in text
    assert "http 1.0 · completed" in text
    assert "after 42.0 s" in text
    assert "This scan found nothing." in text


def test_a_finding_is_shown_with_evidence_weakness_remedy_and_state_gravest_first(scan):
    run, *_ = run_completely(scan, "http", "tls", "ports")
    make_finding(run, "Server: nginx", path="/low", severity="low", title="A low one")
    make_finding(run, "DB_PASSWORD=***", path="/.env", severity="critical", title="A critical one", cwe=538)
    make_finding(run, path="/gone", severity="medium", title="A medium one", state=Finding.State.FIXED)

    page = page_of(scan)

    titles = ["A critical one", "A medium one", "A low one"]
    assert sorted(titles, key=page.text.index) == titles
    for expected in ("CWE-538", "GET https://shop.example.com:443/.env", "DB_PASSWORD=***", "Send one.", "fixed"):
        assert expected in page.text
    assert ("a", "href", "https://cwe.mitre.org/data/definitions/538.html") in page.attributes


def test_a_weakness_that_two_engines_saw_is_one_finding_with_both_proofs(scan):
    http, tls, _ = run_completely(scan, "http", "tls", "ports")
    finding = make_finding(http, "seen by http")
    finding.occurrences.create(run=tls, evidence="seen by tls")

    text = page_of(scan).text

    assert text.count(finding.title) == 1
    assert "Evidence (http) seen by http" in text
    assert "Evidence (tls) seen by tls" in text


def test_a_finding_of_another_scan_is_not_shown_as_this_ones(scan, alice):
    run_completely(scan, "http", "tls", "ports")
    other = make_scan(scan.target, alice)
    make_finding(make_run(other), title="Seen later")

    assert "Seen later" not in page_of(scan).text


def test_an_open_finding_from_before_that_this_scan_did_not_see_is_called_not_fixed(scan):
    run_completely(scan, "http", "tls", "ports")
    earlier = make_scan(scan.target, scan.created_by)
    make_finding(make_run(earlier), title="Seen before")
    Finding.objects.update(first_seen_at=scan.created_at - timedelta(days=1))

    text = page_of(scan).text
    Finding.objects.update(state=Finding.State.FIXED)

    assert "These are not fixed" in text
    assert "Seen before" in text
    assert "Seen before" not in page_of(scan).text


def test_what_was_not_covered_is_told_with_its_reason(scan):
    run_completely(scan, "ports", "http")
    make_run(
        scan, "tls", coverage=cover("tls", [443]), not_covered=[["tls.version.tls10", 80, "the port speaks no TLS"]]
    )

    text = page_of(scan).text

    assert NOT_CLEAN in text
    assert COMPLETE not in text
    assert "1 check could not be completed" in text
    assert "tls: the port speaks no TLS" in text
    assert "TLS 1.0 is accepted tls.version.tls10 80" in text


def test_an_engine_that_did_not_run_covered_nothing(scan):
    run_completely(scan, "ports", "tls")

    text = page_of(scan).text

    assert NOT_CLEAN in text
    assert "http: the engine did not run" in text
    assert f"{len(ENGINES['http'].RULES)} checks could not be completed" in text


def test_an_engine_whose_worker_died_covered_nothing(scan):
    run_completely(scan, "ports", "tls")
    make_run(scan, "http", outcome="", exit_code=None, is_healthy=False)

    text = page_of(scan).text

    assert NOT_CLEAN in text
    assert "http: the engine did not come to its end" in text


def test_a_takeover_that_came_to_its_end_counts_and_not_the_run_that_died(scan):
    make_run(scan, "http", fence=1, outcome="", is_healthy=False)
    make_run(scan, "http", fence=2, coverage=cover("http"))
    run_completely(scan, "ports", "tls")

    assert COMPLETE in page_of(scan).text


def test_a_target_that_fell_ill_was_not_covered(scan):
    run_completely(scan, "ports", "tls")
    make_run(scan, "http", coverage=cover("http"), is_healthy=False)

    text = page_of(scan).text

    assert NOT_CLEAN in text
    assert f"http: {UNHEALTHY}" in text
    assert COMPLETE not in text


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "output_limit", "unavailable"])
def test_an_engine_that_failed_without_a_word_covered_nothing(scan, outcome):
    run_completely(scan, "ports", "tls")
    make_run(scan, "http", outcome=outcome)

    assert NOT_CLEAN in page_of(scan).text


@pytest.mark.parametrize("state", [state for state in Scan.ENDED if state != Scan.State.SUCCEEDED])
def test_a_scan_that_did_not_succeed_is_never_called_complete(scan, state):
    run_completely(scan, "ports", "tls", "http")
    Scan.objects.all().move(state=state, reason="engine_incomplete")

    text = page_of(scan).text

    assert COMPLETE not in text
    assert NOT_CLEAN in text
    assert "engine_incomplete" in text


@pytest.mark.parametrize("state", [state for state in Scan.State if state not in Scan.ENDED])
def test_a_scan_that_has_not_ended_says_so(scan, state):
    Scan.objects.all().move(state=state, reason="", progress=30, started_at=None, ended_at=None)

    text = page_of(scan).text

    assert "This scan has not ended." in text
    assert f"It is {state} at 30 %" in text
    assert COMPLETE not in text


def test_only_the_engines_of_the_profile_are_expected(scan):
    scan.profile = ScanProfile.objects.create(name="tls only", engines={"tls": {}})
    scan.save(update_fields=["profile"])
    run_completely(scan, "tls")

    assert COMPLETE in page_of(scan).text


def test_the_ports_are_those_that_the_engines_were_given(scan):
    run_completely(scan, "ports", "tls", "http")
    scan.target.ports = [1, 2, 3]
    scan.target.save(update_fields=["ports"])

    assert "Ports in scope 443 Profile" in page_of(scan).text


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</pre></style><iframe src=//evil.example>",
    "{{ scan.created_by.password }}{% load x %}",
    "\x1b[31m\x07\u202e\u2066\x85\ufeff\x7f\r",
]
TEXTS = ("title", "path", "parameter", "place", "remediation", "confidence", "scheme", "method", "rule_key", "host")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_brings_markup_or_control_characters_into_the_page(scan, text):
    fields = {name: text[: Finding._meta.get_field(name).max_length] for name in TEXTS}
    run = make_run(scan, "http", version=text, not_covered=[[text, 443, text]], outcome="completed")
    make_finding(run, text, **fields)
    earlier = make_scan(scan.target, scan.created_by)
    make_finding(make_run(earlier), text, **fields | {"port": 1})
    Finding.objects.filter(port=1).update(first_seen_at=scan.created_at - timedelta(days=1))
    scan.target.name = text
    scan.target.host = text
    scan.target.save(update_fields=["name", "host"])
    ScanProfile.objects.update(name=text)
    Scan.objects.filter(pk=scan.pk).move(reason=text[:40], state=Scan.State.PARTIAL)

    html = render_report(Scan.objects.get(pk=scan.pk))

    page = Page(html)
    assert not page.tags & LOADING
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    assert all(
        value.startswith(("#", "https://cwe.mitre.org/")) for _, name, value in page.attributes if name == "href"
    )
    assert make_visible(text) in page.text
    assert not [character for character in html if not character.isprintable() and character not in "\n"]
    assert "argon2" not in html


def test_signs_are_left_alone_and_invisible_ones_are_written_out():
    assert make_visible("Büro 東京 \N{GRINNING FACE} a\tb\n") == "Büro 東京 \N{GRINNING FACE} a\tb\n"
    assert make_visible("\x1b[0m\r\u202e\u2028\x00") == "\\x1b[0m\\r\\u202e\\u2028\\x00"


def test_the_page_forbids_itself_everything_but_its_style(scan):
    page = page_of(scan)

    (text,) = page.styles
    style = b64encode(sha256(text.encode()).digest()).decode()
    assert ("meta", "content", f"default-src 'none'; style-src 'sha256-{style}'") in page.attributes
    assert not page.tags & LOADING
