"""What the demonstration does once everything runs: two customers, three targets, and what each gets to see."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from scans.demo.client import Client, Refused
from scans.demo.processes import SIGN_OF_LIFE_SECONDS
from scans.models import SEVERITIES, Scan
from scans.weak_targets.manifest import Comparison, compare, flaws_at

LONGEST_SCAN_SECONDS = 120
# Which customer tests which of the three targets.
SCANS = {"acme": ("webshop", "vault"), "globex": ("intranet",)}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """A finding as the API tells it, for comparison with the manifest."""

    rule_key: str
    port: int
    path: str


@dataclass
class Launched:
    tenant: str
    target: dict[str, Any]
    client: Client
    scan: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.tenant:<7} scan {self.scan['number']} of {self.target['name']:<9}"


def launch(client: Client, tenant: str, target: dict[str, Any]) -> Launched:
    """The target, the statement that testing is allowed, and the scan, as the member asks for them."""
    made = client.post(
        "targets/",
        {
            "name": target["name"],
            "host": target["address"],
            "ports": sorted(target["ports"].values()),
            "ca_pem": target["ca_pem"],
        },
    )
    client.post(
        f"targets/{made['id']}/authorizations/",
        {
            "version": made["version"],
            "statement": "This demonstration started the target itself, for this purpose.",
            "intrusiveness": "safe_active",
            "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        },
    )
    profile = next(row for row in client.all("profiles/") if row["name"] == "standard")
    scan = client.post("scans/", {"target": made["id"], "profile": profile["id"]})
    return Launched(tenant, target, client, scan)


def watch(launched: list[Launched], say: Say, require_alive: Callable[[], None]) -> None:
    """A line for each change of each scan, and a sign of life in between, until all have ended."""
    shown: dict[str, tuple] = {}
    said_at = deadline = time.monotonic()
    deadline += LONGEST_SCAN_SECONDS
    while any(one.scan["state"] not in Scan.ENDED for one in launched):
        require_alive()
        if time.monotonic() > deadline:
            raise CommandError(f"The scans did not end within {LONGEST_SCAN_SECONDS} s.")
        for one in launched:
            one.scan = one.client.get(f"scans/{one.scan['id']}/")
            state = (one.scan["state"], one.scan["progress"], one.scan["message"])
            if shown.get(one.scan["id"]) != state:
                shown[one.scan["id"]] = state
                said_at = time.monotonic()
                say(f"  {one}  {state[0]:<10} {state[1]:>3} %  {one.scan['reason'] or state[2]}")
        if time.monotonic() - said_at > SIGN_OF_LIFE_SECONDS:
            said_at = time.monotonic()
            say(f"    ... {sum(one.scan['state'] not in Scan.ENDED for one in launched)} scans are running")
        time.sleep(0.2)


def show_findings(one: Launched, say: Say) -> Comparison:
    """A table of what was found, held against what was planted."""
    findings = [row for row in one.client.all("findings/") if row["host"] == one.target["address"]]
    say(f"\n{one.tenant}'s findings on {one.target['name']} ({one.target['address']})")
    for row in sorted(findings, key=lambda row: (-SEVERITIES.index(row["severity"]), row["port"], row["rule_key"])):
        place = f"{row['port']}{row['path']}"
        say(f"  {row['severity']:<8}  {place:<20}  {row['title'][:60]:<60}  CWE-{row['cwe']}")
    planted = flaws_at(one.target["name"], one.target["ports"])
    comparison = compare([Place(row["rule_key"], row["port"], row["path"]) for row in findings], planted)
    say(
        f"  planted {len(planted)}: found {len(comparison.found)}, missed {len(comparison.missed)}, "
        f"false {len(comparison.false)}" + ("  (a clean target)" if not planted else "")
    )
    for kind, differing in (("missed", comparison.missed), ("false", comparison.false)):
        for other in differing:
            say(f"    {kind}: {other.rule_key} at {other.port}{other.path}")
    return comparison


def show_refusal(mine: Launched, theirs: Launched, say: Say) -> None:
    """The other customer's scan, and one that never existed, with this customer's token: no difference."""
    say(f"\n{mine.tenant}'s token asks for {theirs.tenant}'s scan, and for one that never existed")
    answers = []
    for what, scan_id in (("theirs", theirs.scan["id"]), ("nobody's", str(uuid.uuid4()))):
        try:
            answer: tuple[int, Any] = (200, mine.client.get(f"scans/{scan_id}/"))
        except Refused as refused:
            answer = (refused.status, refused.body)
        answers.append(answer)
        say(f"  GET /api/v1/scans/{scan_id}/  ({what:<8})  {answer[0]}  {answer[1]}")
    own = mine.client.get(f"scans/{mine.scan['id']}/")
    say(f"  GET /api/v1/scans/{mine.scan['id']}/  (its own )  200  scan {own['number']}, {own['state']}")
    if answers[0] != answers[1] or answers[0][0] != 404:
        raise CommandError("A foreign scan was not answered as one that does not exist.")


def write_reports(launched: list[Launched], directory: Path) -> list[Path]:
    paths = []
    for one in launched:
        path = directory / f"{one.tenant}-{one.target['name']}.html"
        path.write_text(one.client.text(f"scans/{one.scan['id']}/report.html"))
        paths.append(path)
    return paths
