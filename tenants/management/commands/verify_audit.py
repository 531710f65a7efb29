import json
from collections.abc import Iterator
from pathlib import Path

from django.core.management.base import CommandError

from tenants.audit.verification import Head, Verdict, verify, verify_export
from tenants.context import control_plane, fleet_context
from tenants.exceptions import TenantError
from tenants.management.base import TenancyCommand
from tenants.models import AuditAnchor
from tenants.services import find_tenant, served_slugs

CONTROL = "(control)"


class Command(TenancyCommand):
    help = "Check that nobody has changed, removed or reordered what the audits hold: of control and of every tenant."
    example = "verify_audit acme --json"

    def add_arguments(self, parser):
        parser.add_argument("slugs", nargs="*", metavar="slug", help="these tenants only")
        parser.add_argument("--export", type=Path, metavar="FILE", help="check a file of export_audit, and no database")
        parser.add_argument("--json", action="store_true", help="a JSON array instead of a table")

    def handle(self, slugs, export: Path | None, json: bool, **options):
        verdicts = dict(_of_file(export)) if export else dict(_of_planes(slugs))
        self.stdout.write(_as_json(verdicts) if json else _as_table(verdicts))
        broken = [name for name, verdict in verdicts.items() if verdict.faults]
        if broken:
            raise CommandError(f"Not as recorded: the audit of {', '.join(broken)}.")


def _of_planes(slugs: list[str]) -> Iterator[tuple[str, Verdict]]:
    if not slugs:
        with control_plane():
            yield CONTROL, verify()
    for slug in slugs or served_slugs():
        yield slug, _of_tenant(slug)


def _of_tenant(slug: str) -> Verdict:
    """What is found in order is remembered in control: from then on, nobody who can write the tenant's database alone
    can rewrite it."""
    with control_plane():
        tenant = find_tenant(slug)
        known = AuditAnchor.objects.filter(tenant=tenant).first()
    try:
        with fleet_context(slug, "migration"):
            verdict = verify(Head(known.number, known.hash) if known else None)
    except TenantError as error:
        return Verdict(Head(0, ""), 0, [f"it could not be read: {error}"])
    if not verdict.faults:
        with control_plane():
            AuditAnchor.objects.update_or_create(tenant=tenant, defaults=verdict.head._asdict())
    return verdict


def _of_file(path: Path) -> Iterator[tuple[str, Verdict]]:
    try:
        with path.open() as lines:
            yield str(path), verify_export(map(json.loads, lines))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is no export of an audit: {error!r:.200}") from error


def _as_table(verdicts: dict[str, Verdict]) -> str:
    lines = [f"{'audit of':<24} {'events':>8} {'newest':>8}  result"]
    for name, verdict in verdicts.items():
        result = "; ".join(verdict.faults) or "as recorded"
        lines.append(f"{name:<24} {verdict.events:>8} {verdict.head.number:>8}  {result}")
    return "\n".join(lines)


def _as_json(verdicts: dict[str, Verdict]) -> str:
    rows = [
        {"audit": name, "events": verdict.events, "faults": verdict.faults, **verdict.head._asdict()}
        for name, verdict in verdicts.items()
    ]
    return json.dumps(rows, indent=2)
