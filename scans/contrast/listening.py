"""What this system sends to its tenants' databases, as it sends it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db.backends.signals import connection_created

from scans.contrast import Statement
from tenants import connections
from tenants.context import control_plane
from tenants.models import Tenant


@contextmanager
def statements_sent(is_wanted: Callable[[str], bool]) -> Iterator[list[Statement]]:
    """The wanted statements of the block, to a database that is named by its tenant."""
    with control_plane():
        slugs = {tenant.alias: tenant.slug for tenant in Tenant.objects.all()}
    connections.close_tenant_connections()  # so that the opening of each is heard
    sent: list[Statement] = []

    def listen(sender, connection, **kwargs):
        opened = Path(connection.settings_dict["NAME"]).stem
        database = f"{slugs.get(opened, opened)}.sqlite3"

        def note(execute, sql, params, many, context):
            if is_wanted(sql):
                sent.append(Statement(database, sql % tuple(map(repr, params or ()))))
            return execute(sql, params, many, context)

        connection.execute_wrappers.append(note)

    connection_created.connect(listen)
    try:
        yield sent
    finally:
        connection_created.disconnect(listen)
        connections.close_tenant_connections()
