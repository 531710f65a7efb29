import json

from django.db import Error as DatabaseError
from django.db import connection

from tenants.context import control_plane, fleet_context
from tenants.exceptions import TenantError
from tenants.management.base import TenancyCommand
from tenants.models import Tenant
from tenants.schema import unapplied_migrations

COLUMNS = ["slug", "name", "state", "server", "generation", "created_at", "id"]


class Command(TenancyCommand):
    help = "List the tenants, whatever their state."
    example = "list_tenants --json"

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="a JSON array instead of a table")
        parser.add_argument("--check", action="store_true", help="open each database, and say which cannot be and why")

    def handle(self, json: bool, check: bool, **options):
        with control_plane():
            tenants = list(Tenant.objects.select_related("server"))
            rows = [self._row(tenant) | ({"database": _database_of(tenant)} if check else {}) for tenant in tenants]
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


def _database_of(tenant: Tenant) -> str:
    """As members' requests find it. Of servers that do not answer the first tenant waits, and no other."""
    if tenant.state not in (Tenant.State.ACTIVE, Tenant.State.SUSPENDED):
        return "-"
    try:
        with fleet_context(tenant):
            connection.ensure_connection()
            missing = unapplied_migrations()
    except (DatabaseError, TenantError) as error:
        return " ".join(str(error).split())
    return f"behind: {', '.join(missing)}" if missing else "ok"


def _as_json(rows: list[dict]) -> str:
    return json.dumps(rows, indent=2)


def _as_table(rows: list[dict]) -> str:
    if not rows:
        return "There are no tenants. The first one: ./manage.py create_tenant SLUG"
    columns = [*COLUMNS, *(["database"] if "database" in rows[0] else [])]
    lines = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
