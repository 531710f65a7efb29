"""Whether the bound database has been brought to where the code is."""

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tenants.exceptions import DatabaseBehindError
from tenants.planes import require_bound


def unapplied_migrations() -> list[str]:
    """The bound database's own record, compared with the code's migrations."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def require_up_to_date() -> None:
    """Raises ``DatabaseBehindError``."""
    if missing := unapplied_migrations():
        raise DatabaseBehindError(
            f"The database of {require_bound()} is behind: {', '.join(missing)} not applied. Run migrate_tenants."
        )
