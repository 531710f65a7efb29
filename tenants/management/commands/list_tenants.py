import json

from tenants.context import control_plane
from tenants.management.base import TenancyCommand
from tenants.models import Tenant

COLUMNS = ["slug", "name", "state", "server", "generation", "created_at", "id"]


class Command(TenancyCommand):
    help = "List the tenants, whatever their state."
    example = "list_tenants --json"

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="a JSON array instead of a table")

    def handle(self, json: bool, **options):
        with control_plane():
            rows = [self._row(tenant) for tenant in Tenant.objects.select_related("server")]
        self.stdout.write(_as_json(rows) if json else _as_table(rows))

    def _row(self, tenant: Tenant) -> dict:
        return {
            "slug": tenant.slug,
            "name": tenant.name,
            "state": tenant.state,
            "server": tenant.server.name,
            "generation": tenant.generation,
            "created_at": tenant.created_at.isoformat(timespec="seconds"),
            "id": str(tenant.pk),
        }


def _as_json(rows: list[dict]) -> str:
    return json.dumps(rows, indent=2)


def _as_table(rows: list[dict]) -> str:
    if not rows:
        return "There are no tenants. The first one: ./manage.py create_tenant SLUG"
    lines = [COLUMNS, *([str(row[column]) for column in COLUMNS] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
