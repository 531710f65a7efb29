"""A scan as one HTML page that needs nothing else: no script, no other file, no network."""

import re
import unicodedata
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256

from django.http import HttpResponse
from django.template.loader import get_template, render_to_string
from django.utils import timezone

from scans.engines import ENGINES
from scans.models import SEVERITIES, Finding, Occurrence, Scan, ScanRun

TEMPLATE = "scans/report.html"
NOT_RUN = "the engine did not run"
NOT_ENDED = "the engine did not come to its end"
UNHEALTHY = "the target did not answer afterwards as it did before, so that finding nothing proves nothing"


@dataclass
class Gap:
    """What was not tested, for one reason."""

    reason: str
    places: list[tuple[str, str, list[int]]]  # rule, its title, ports


@dataclass
class EngineCoverage:
    engine: str
    run: ScanRun | None
    covered: list[tuple[str, str, list[int]]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def gap_size(self) -> int:
        return sum(max(len(ports), 1) for gap in self.gaps for _, _, ports in gap.places)

    @property
    def covered_size(self) -> int:
        return sum(len(ports) for _, _, ports in self.covered)


def report_response(scan: Scan) -> HttpResponse:
    response = HttpResponse(render_report(scan))
    rest = "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    response["Content-Security-Policy"] = f"{page_policy()}; {rest}"  # which no page can say of itself
    return response


def page_policy() -> str:
    return f"default-src 'none'; style-src {style_source(TEMPLATE)}"


@cache
def style_source(template_name: str) -> str:
    """The one ``<style>`` of a template, as a policy names it: by its digest, so that no other style applies."""
    source = get_template(template_name).template.source  # type: ignore[attr-defined]  # Django's own engine
    style = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in style)


def render_report(scan: Scan) -> str:
    """Of the findings it shows what this scan saw and the state they have now."""
    seen = _seen(scan)
    engines = [_coverage(scan, name) for name in ENGINES if name in scan.profile.engines]
    gap_size = sum(engine.gap_size for engine in engines)
    page = render_to_string(
        TEMPLATE,
        {
            "scan": scan,
            "target": scan.target,
            "ports": _ports(scan),
            "has_ended": scan.state in Scan.ENDED,
            "duration": scan.ended_at - scan.started_at if scan.started_at and scan.ended_at else None,
            "severities": [(name, [row for row in seen if row[0].severity == name]) for name in reversed(SEVERITIES)],
            "seen": seen,
            "engines": engines,
            "gap_size": gap_size,
            "covered_size": sum(engine.covered_size for engine in engines),
            "is_complete": scan.state == Scan.State.SUCCEEDED and gap_size == 0,
            "unconfirmed": _unconfirmed(scan, [finding.pk for finding, _ in seen]),
            "policy": page_policy(),
            "now": timezone.now(),
        },
    )
    return make_visible(page)


def make_visible(text: str) -> str:
    """
    Control and format characters in writing, ``\\x1b``: a banner must not move the cursor, nor turn the line around.
    Line breaks and tabs stay.
    """
    return re.sub(r"[^\n\t -~]", lambda match: _visible(match[0]), text)


def _visible(character: str) -> str:
    is_sign = unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029"
    return character if is_sign else character.encode("unicode_escape").decode("ascii")


def _seen(scan: Scan) -> list[tuple[Finding, list[Occurrence]]]:
    """Gravest first; with each finding what every engine saw of it."""
    seen: dict[Finding, list[Occurrence]] = {}
    for occurrence in Occurrence.objects.filter(run__scan=scan).select_related("finding", "run").order_by("pk"):
        seen.setdefault(occurrence.finding, []).append(occurrence)
    return sorted(seen.items(), key=lambda row: (-SEVERITIES.index(row[0].severity), row[0].port, row[0].title))


def _ports(scan: Scan) -> list[int]:
    """As the engines were given them: the target may have been changed since."""
    given = {port for run in scan.runs.all() for _, port, *_ in (*run.coverage, *run.not_covered)}
    return sorted(given or scan.target.ports)


def _unconfirmed(scan: Scan, seen: list) -> list[Finding]:
    """Open since before this scan, which did not see them. Where it covered their place it would have closed them."""
    earlier = Finding.objects.filter(target=scan.target, state=Finding.State.OPEN, first_seen_at__lt=scan.created_at)
    return sorted(earlier.exclude(pk__in=seen), key=lambda finding: (-SEVERITIES.index(finding.severity), finding.port))


def _coverage(scan: Scan, engine: str) -> EngineCoverage:
    """From the engine's newest run: a takeover repeats what had not come to its end."""
    runs = sorted((run for run in scan.runs.all() if run.engine == engine), key=lambda run: run.fence)
    if not runs:
        return EngineCoverage(engine, None, gaps=[_whole_gap(engine, NOT_RUN)])
    run = runs[-1]
    if not run.outcome:
        return EngineCoverage(engine, run, gaps=[_whole_gap(engine, NOT_ENDED)])
    missed: dict[str, list] = {}
    for rule, port, reason in run.not_covered:
        missed.setdefault(reason, []).append((rule, port))
    covered = [tuple(pair) for pair in run.coverage]
    if not run.is_healthy:
        missed.setdefault(UNHEALTHY, []).extend(covered)
        covered = []
    gaps = [Gap(reason, _places(engine, pairs)) for reason, pairs in missed.items() if pairs]
    if run.outcome != "completed" and not gaps:
        gaps = [_whole_gap(engine, NOT_ENDED)]
    return EngineCoverage(engine, run, _places(engine, covered), gaps)


def _whole_gap(engine: str, reason: str) -> Gap:
    return Gap(reason, [(key, rule.title, []) for key, rule in ENGINES[engine].RULES.items()])


def _places(engine: str, pairs: list[tuple[str, int]]) -> list[tuple[str, str, list[int]]]:
    """Ports by rule."""
    ports: dict[str, list[int]] = {}
    for rule, port in pairs:
        ports.setdefault(rule, []).append(port)
    rules = ENGINES[engine].RULES
    return [(key, rules[key].title if key in rules else key, sorted(ports[key])) for key in sorted(ports)]
