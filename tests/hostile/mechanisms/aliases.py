"""Aliases, connections and cursors"""

import copy
import io

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import ConnectionHandler, load_backend

from tenants.connections import complete
from tenants.planes import current
from tests.hostile.mechanism import CONNECTION, DEFACE, OPEN, READ, Verdict, mechanism, read

ACCOUNT = Verdict("account", "1044")
FILES = "Nothing on SQLite: whoever may open files of this user may open them all."


def kept_connection(aim):
    return connections["default"]


def kept_cursor(aim):
    cursor = connection.cursor()
    cursor.execute(READ)
    return cursor


def names(rows):
    return sorted(rows.values_list("name", flat=True))


def dumped(command, *arguments, **options):
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return out.getvalue()


@mechanism("using()", CONNECTION)
def using(aim):
    """`Group.objects.using(alias)`."""
    return names(Group.objects.using(aim.alias))


@mechanism("db_manager()", CONNECTION)
def db_manager(aim):
    """`Group.objects.db_manager(alias)`."""
    return names(Group.objects.db_manager(aim.alias))


@mechanism("connections[alias]", CONNECTION)
def by_alias(aim):
    """`connections[alias].cursor()`."""
    return read(connections[aim.alias].cursor())


@mechanism("a write through connections[alias]", CONNECTION, writes=True)
def write_by_alias(aim):
    """`UPDATE` on a cursor of `connections[alias]`."""
    connections[aim.alias].cursor().execute(DEFACE)


@mechanism("a kept connection", CONNECTION, keep=kept_connection)
def use_kept_connection(aim):
    """The connection object of an earlier unit of work, used again."""
    return read(aim.kept.cursor())


@mechanism("a kept cursor", CONNECTION, keep=kept_cursor)
def use_kept_cursor(aim):
    """A cursor of an earlier unit of work: a new statement on it."""
    return read(aim.kept)


@mechanism("the rest of a kept cursor's rows", CONNECTION, keep=kept_cursor)
def fetch_from_kept_cursor(aim):
    """A cursor that was left with rows to fetch."""
    return aim.kept.fetchall()


@mechanism("a kept method of a cursor", CONNECTION, keep=lambda aim: kept_cursor(aim).fetchall)
def call_kept_method(aim):
    """`fetchall`, bound to a cursor of an earlier unit of work."""
    return aim.kept()


@mechanism("a kept cursor's own cursor, asked for by its attribute", CONNECTION, keep=kept_cursor)
def attribute_of_kept_cursor(aim):
    """`cursor.connection`: the driver's handle by way of a guarded cursor."""
    handle = aim.kept.connection
    return read(handle.cursor())


@mechanism("a copied connection", CONNECTION, control=lambda aim: read(connection.cursor()))
def copied(aim):
    """`connection.copy()`, which nobody would close."""
    return read(connection.copy(aim.alias).cursor())


@mechanism("a shallow copy of a kept connection", CONNECTION, keep=kept_connection)
def shallow_copy(aim):
    """`copy.copy()` of the connection object of an earlier unit of work."""
    return read(copy.copy(aim.kept).cursor())


@mechanism("a transaction on another alias", CONNECTION)
def atomic_elsewhere(aim):
    """`transaction.atomic(using=alias)`."""
    with transaction.atomic(using=aim.alias):
        return read(connections[aim.alias].cursor())


@mechanism("a commit of kept work", CONNECTION, keep=kept_connection, writes=True)
def commit_kept(aim):
    """`atomic()` entered by hand on a kept connection."""
    aim.kept.set_autocommit(False)
    aim.kept.cursor().execute(DEFACE)
    aim.kept.commit()


@mechanism("an alias added to connections.settings", CONNECTION)
def edited_connections(aim):
    """The database entered in `connections.settings` and `connections.databases`, and asked for."""
    connections.settings[aim.alias] = connections.databases[aim.alias] = complete(aim.database_settings)
    return read(connections[aim.alias].cursor())


@mechanism("an alias added to settings.DATABASES", CONNECTION)
def edited_settings(aim):
    """`settings.DATABASES[alias] = ...`."""
    settings.DATABASES[aim.alias] = complete(aim.database_settings)
    return read(connections[aim.alias].cursor())


@mechanism("a connection put into connections", CONNECTION, control=lambda aim: read(connections["default"].cursor()))
def set_item(aim):
    """`connections["default"] = another`."""
    connections["default"] = load_backend(connection.settings_dict["ENGINE"]).DatabaseWrapper(
        aim.database_settings, aim.alias
    )
    return read(connections["default"].cursor())


@mechanism("Django's own connection handler", CONNECTION)
def swapped_handler(aim):
    """`connections.__class__ = ConnectionHandler`, with the database entered in its settings."""
    entry = complete(aim.database_settings)
    connections.__class__ = ConnectionHandler
    connections.settings[aim.alias] = entry
    connections[aim.alias].bound = current()
    return read(connections[aim.alias].cursor())


@mechanism("a connection object made by hand", CONNECTION)
def made_by_hand(aim):
    """Our backend's `DatabaseWrapper(settings, alias)`."""
    backend = load_backend(connection.settings_dict["ENGINE"])
    wrapper = backend.DatabaseWrapper(complete(aim.database_settings), aim.alias)
    wrapper.bound = current()
    return read(wrapper.cursor())


@mechanism("Django's own backend", sqlite=OPEN, mysql=ACCOUNT, outer=FILES)
def stock_backend(aim):
    """A `DatabaseWrapper` of `django.db.backends`, with the credentials that the bound connection has."""
    backend = load_backend(
        "django.db.backends.sqlite3" if connection.vendor == "sqlite" else "django.db.backends.mysql"
    )
    return read(backend.DatabaseWrapper(complete(aim.database_settings), "anything").cursor())


@mechanism("a schema editor of a kept connection", CONNECTION, keep=kept_connection, writes=True)
def schema_editor(aim):
    """`connection.schema_editor()` of an earlier unit of work."""
    with aim.kept.schema_editor() as editor:
        editor.execute(DEFACE)


@mechanism("introspection of a kept connection", CONNECTION, keep=kept_connection)
def introspection(aim):
    """`connection.introspection` of an earlier unit of work."""
    aim.kept.introspection.table_names()
    return read(aim.kept.cursor())


@mechanism("a migration executor on a kept connection", CONNECTION, keep=kept_connection)
def executor(aim):
    """`MigrationExecutor(kept)`, which reads the other's history."""
    MigrationExecutor(aim.kept).loader.check_consistent_history(aim.kept)
    return read(aim.kept.cursor())


@mechanism("a migration recorder on a kept connection", CONNECTION, keep=kept_connection)
def recorder(aim):
    """`MigrationRecorder(kept)`."""
    MigrationRecorder(aim.kept).applied_migrations()
    return read(aim.kept.cursor())


@mechanism("dumpdata --database", Verdict("router", "CommandError"))
def dumpdata(aim):
    """`call_command("dumpdata", database=alias)`."""
    return dumped("dumpdata", "auth.Group", database=aim.alias)


@mechanism("flush --database", CONNECTION, control=lambda aim: dumped("dumpdata", "auth.Group", database=aim.alias))
def flush(aim):
    """`call_command("flush", database=alias)`."""
    return dumped("flush", interactive=False, database=aim.alias)


@mechanism("tenant_command inside a tenant", Verdict("binding", "CommandError"), aims=("globex",))
def other_tenants_command(aim):
    """`call_command("tenant_command", "globex", "dumpdata", ...)`."""
    return dumped("tenant_command", aim.slug, "dumpdata", "auth.Group")


@mechanism(
    "all_tenants inside a tenant",
    Verdict("binding", "CommandError"),
    aims=("globex",),
    control=lambda aim: dumped("dumpdata", "auth.Group"),
)
def all_tenants(aim):
    """`call_command("all_tenants", "dumpdata", ...)`, which binds each in turn."""
    return dumped("all_tenants", "dumpdata", "auth.Group")
