"""Whether the bound database has been brought to where the code is."""

from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from tenants.exceptions import DatabaseBehindError
from tenants.planes import require_bound


@cache
def _of_the_code() -> MigrationLoader:
    """Read once in a process: it takes longer than the rest of a request."""
    return MigrationLoader(None)


def unapplied_migrations() -> list[str]:
    """The bound database's own record, compared with the code's migrations."""
    graph, applied = _of_the_code().graph, MigrationRecorder(connection).applied_migrations()
    behind = [leaf for leaf in graph.leaf_nodes() if leaf not in applied]
    missing = {node: None for leaf in behind for node in graph.forwards_plan(leaf) if node not in applied}
    return [".".join(node) for node in missing]


def require_up_to_date() -> None:
    """Raises ``DatabaseBehindError``."""
    if missing := unapplied_migrations():
        raise DatabaseBehindError(
            f"The database of {require_bound()} is behind: {', '.join(missing)} not applied. Run migrate_tenants."
        )
