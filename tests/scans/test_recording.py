"""What engines report becomes findings: each once, whoever reports it how often."""

import itertools
import threading
from dataclasses import replace

import pytest
from django.db import transaction

from scans.engines import ENGINES
from scans.engines.base import EngineTarget, FindingEvent
from scans.engines.health import HealthReport
from scans.engines.protocol import Transcript, encode_line
from scans.leases import take_lease
from scans.models import Finding, Occurrence, Scan, ScanCounter, ScanProfile, ScanRun, Target, TaskQueue
from scans.recording import close_what_is_gone, record_finding, start_run
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.scans.scanning import authorize

RULES = ENGINES["http"].RULES
RULE = RULES["http.exposed.env"]
EVENT = FindingEvent(
    rule_key=RULE.key,
    scheme="http",
    port=80,
    method="GET",
    path="/.env",
    parameter="q",
    place="header",
    evidence="SECRET=1",
    confidence="observed",
)
HOST = "127.0.0.1"


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        target = Target.objects.create(name="shop", host=HOST, ports=[80, 81], created_by=alice)
        authorize(alice, target)
        return target


def begin(target, engine="http"):
    """A scan under way, and its run."""
    profile, _ = ScanProfile.objects.get_or_create(name=engine, defaults={"engines": {engine: {}}})
    with transaction.atomic():
        scan = Scan.objects.create(
            number=ScanCounter.next(), target=target, profile=profile, created_by=target.created_by
        )
        task = TaskQueue.objects.create(task_id=scan.number)
    lease = take_lease(task.message_id)
    return lease, start_run(lease, engine)


def cover(run, *ports, outcome="completed", is_healthy=True):
    ScanRun.objects.filter(pk=run.pk).update(
        outcome=outcome, is_healthy=is_healthy, coverage=[[RULE.key, port] for port in ports]
    )


def rows():
    return sorted(Finding.objects.values_list("path", "state", "version"))


IDENTITY = {
    "scheme": "https",
    "port": 81,
    "method": "HEAD",
    "path": "/.ENV",
    "parameter": "Q",
    "place": "body",
}


@pytest.mark.parametrize("part", IDENTITY)
def test_each_part_of_a_place_makes_another_finding(target, part):
    with tenant_context("acme"):
        _, run = begin(target)
        record_finding(run, RULE, EVENT, HOST)
        record_finding(run, RULE, replace(EVENT, **{part: IDENTITY[part]}), HOST)

        assert Finding.objects.count() == 2


def test_rule_host_and_target_are_parts_of_the_identity(target, alice):
    with tenant_context("acme"):
        other = Target.objects.create(name="other", host=HOST, ports=[80], created_by=alice)
        _, run = begin(target)
        _, elsewhere = begin(other)

        record_finding(run, RULE, EVENT, HOST)
        record_finding(run, RULES["http.exposed.git"], EVENT, HOST)
        record_finding(run, RULE, EVENT, "localhost")
        record_finding(elsewhere, RULE, EVENT, HOST)

        assert Finding.objects.count() == 4


def test_parts_do_not_run_together():
    places = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("a", "b", "c"), ("a\0", "b"), ("a", "\0b")]

    assert len({Finding.fingerprint_of(*place) for place in places}) == len(places)


def test_evidence_confidence_title_and_severity_are_no_part_and_follow_the_newest_scan(target):
    with tenant_context("acme"):
        _, first = begin(target)
        _, second = begin(target)
        record_finding(first, RULE, EVENT, HOST)
        rule = replace(RULE, title="Renamed", severity="low", cwe=16, remediation="Better advice.")
        record_finding(second, rule, replace(EVENT, evidence="SECRET=2", confidence="verified"), HOST)

        finding = Finding.objects.get()
        assert (finding.title, finding.severity, finding.cwe, finding.remediation, finding.confidence) == (
            "Renamed",
            "low",
            16,
            "Better advice.",
            "verified",
        )
        assert finding.last_seen_at > finding.first_seen_at
        assert sorted(Occurrence.objects.values_list("evidence", flat=True)) == ["SECRET=1", "SECRET=2"]


def test_the_same_place_twice_in_one_run_is_one_occurrence(target):
    with tenant_context("acme"):
        _, run = begin(target)
        for _ in range(3):
            record_finding(run, RULE, EVENT, HOST)

        assert (Finding.objects.count(), Occurrence.objects.count()) == (1, 1)


def test_a_fixed_finding_that_is_seen_again_is_opened_again(target):
    with tenant_context("acme"):
        _, run = begin(target)
        record_finding(run, RULE, EVENT, HOST)
        Finding.objects.update(state="fixed")

        record_finding(run, RULE, EVENT, HOST)

        assert rows() == [("/.env", "open", 3)]  # fixed, and opened again


# What a run must be for an absence in it to close: each differs from the one that closes in one thing.
RUNS = {
    "complete": ({"ports": [80]}, "fixed"),
    "of another port": ({"ports": [81]}, "open"),
    "of nothing": ({"ports": []}, "open"),
    "failed": ({"ports": [80], "outcome": "failed"}, "open"),
    "timed out": ({"ports": [80], "outcome": "timed_out"}, "open"),
    "cancelled": ({"ports": [80], "outcome": "cancelled"}, "open"),
    "not ended": ({"ports": [80], "outcome": ""}, "open"),
    "of a sick target": ({"ports": [80], "is_healthy": False}, "open"),
}


@pytest.mark.parametrize(("run", "state"), RUNS.values(), ids=RUNS)
def test_a_finding_is_closed_by_complete_coverage_of_a_healthy_target_alone(target, run, state):
    with tenant_context("acme"):
        _, earlier = begin(target)
        record_finding(earlier, RULE, EVENT, HOST)
        lease, now = begin(target)
        ports, rest = run["ports"], {name: value for name, value in run.items() if name != "ports"}
        cover(now, *ports, **rest)

        closed = close_what_is_gone(lease.scan)

        assert (Finding.objects.get().state, closed) == (state, int(state == "fixed"))


OTHERS = {
    "seen in this scan": lambda run: record_finding(run, RULE, EVENT, HOST),
    "of another rule": lambda run: Finding.objects.update(rule_key="http.exposed.git"),
    "of the host that the target had before": lambda run: Finding.objects.update(host="127.0.0.2"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_complete_coverage_closes_no_finding_that_is(target, other):
    with tenant_context("acme"):
        _, earlier = begin(target)
        record_finding(earlier, RULE, EVENT, HOST)
        lease, run = begin(target)
        cover(run, 80)
        OTHERS[other](run)

        close_what_is_gone(lease.scan)

        assert Finding.objects.get().state == "open"


def test_what_another_scan_saw_since_this_one_began_is_not_closed(target):
    with tenant_context("acme"):
        _, earlier = begin(target)
        record_finding(earlier, RULE, EVENT, HOST)
        slow, run = begin(target)
        _, quick = begin(target)
        cover(run, 80)
        record_finding(quick, RULE, EVENT, HOST)

        assert close_what_is_gone(slow.scan) == 0


def test_another_targets_findings_are_left_alone(target, alice):
    with tenant_context("acme"):
        other = Target.objects.create(name="other", host=HOST, ports=[80], created_by=alice)
        _, elsewhere = begin(other)
        record_finding(elsewhere, RULE, EVENT, HOST)
        lease, run = begin(target)
        cover(run, 80)

        assert close_what_is_gone(lease.scan) == 0


def test_two_scans_of_one_target_at_once_make_each_finding_once(target):
    count, errors, barrier = 8, [], threading.Barrier(2)
    with tenant_context("acme"):
        begun = [begin(target) for _ in range(2)]

    def report(lease, run):
        try:
            with tenant_context("acme"):
                barrier.wait()
                for number in range(count):
                    with lease.write():
                        record_finding(run, RULE, replace(EVENT, path=f"/{number}"), HOST)
        except Exception as error:
            errors.append(error)
        finally:
            close_tenant_connections()

    threads = [threading.Thread(target=report, args=args) for args in begun]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with tenant_context("acme"):
        assert (Finding.objects.count(), Occurrence.objects.count()) == (count, 2 * count)


HOSTILE = ["a\0b", "\ud800", "\udfff\ud800", "\U0010ffff", "\u202egnp.exe", "\x1b[2J", "😀" * 3000, "é́", " trailing "]


def test_hostile_text_of_a_target_is_recorded_as_harmless_text(target):
    asked = EngineTarget(host=HOST, addresses=(HOST,), ports=(80,), user_agent="test")
    transcript = Transcript(RULES, asked)
    transcript.accept(encode_line(HealthReport(((HOST, 80),), ())))

    with tenant_context("acme"):
        lease, run = begin(target)
        for text, where in itertools.product(HOSTILE, ["evidence", "path", "parameter", "place"]):
            event = transcript.accept(encode_line(replace(EVENT, **{where: text})))
            with lease.write():
                record_finding(run, RULE, event, HOST)
        lease.report(1, transcript.accept(encode_line(EVENT)).evidence)

        kept = "".join(itertools.chain(*Finding.objects.values_list("path", "parameter", "place")))
        kept += "".join(Occurrence.objects.values_list("evidence", flat=True))
        assert "😀" in kept and not set("\0\x1b\u202e\ud800\udfff") & set(kept)
