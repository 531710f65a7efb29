"""SQLite with the guard. One file per database, mode 0600, made by the provisioner and never by connecting to it."""

import re
import sqlite3
from contextlib import contextmanager
from urllib.parse import quote

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from tenants import connections
from tenants.backends.guard import GuardedWrapper
from tenants.planes import Plane

# Django sends BEGIN where nothing is open, and what it commits and rolls back by calling the driver.
ENDS_TRANSACTION = re.compile(
    r"(?:[\s;\ufeff]|/\*.*?\*/|--[^\n]*\n)*(?:BEGIN|COMMIT|END|ROLLBACK(?!\s+(?:(?:TRANSACTION|WORK)\s+)?TO\b))\b",
    re.IGNORECASE | re.DOTALL,
)
OBJECTS = ("INDEX", "TABLE", "TEMP_INDEX", "TEMP_TABLE", "TEMP_TRIGGER", "TEMP_VIEW", "TRIGGER", "VIEW", "VTABLE")
DDL = {getattr(sqlite3, f"SQLITE_{verb}_{kind}") for verb in ("CREATE", "DROP") for kind in OBJECTS}
# With a value: what Django sets, and those whose value is a name to look up. `writable_schema` would be DDL by UPDATE.
LOOK_UPS = ("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info")
PRAGMAS = {"busy_timeout", "foreign_keys", "table_list", "table_xinfo", *LOOK_UPS}
BUSY_MS = 5000  # how long a transaction waits for another to end: the driver's default
HARDLY_MS = 2  # what without_waiting() waits: a transaction locks the whole file, and most are shorter


def runtime_may(action: int, first: str | None, second: str | None, *where: str | None) -> int:
    """What MariaDB's runtime account may, asked when a statement is prepared: data, and no word of the schema."""
    if action in DDL or action == sqlite3.SQLITE_ALTER_TABLE:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and second is not None and first not in PRAGMAS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


class DatabaseWrapper(GuardedWrapper, base.DatabaseWrapper):
    ends_transaction = ENDS_TRANSACTION

    def get_connection_params(self):
        params = super().get_connection_params()
        # A read transaction that turns into a write fails at once in WAL mode, whatever the timeout: hence IMMEDIATE.
        self.transaction_mode = "IMMEDIATE"
        return params | {"database": f"file:{quote(str(self.settings_dict['NAME']))}?mode=rw"}

    def get_new_connection(self, conn_params):
        if str(self.settings_dict["NAME"]) in connections.inherited_files:
            raise OperationalError(
                "This database was in use when the process was forked, and SQLite would lose what is written here: "
                "fork where no other thread and no transaction uses it."
            )
        connection = super().get_new_connection(conn_params)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would open another tenant's file
        if self.bound.plane is Plane.TENANT and self.account == "runtime":
            connection.set_authorizer(runtime_may)
        return connection

    def says_nobody(self, error):
        return error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)

    def says_missing(self, error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR  # it has no code of its own

    def says_read_only(self, error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY

    def says_locked(self, error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY

    @contextmanager
    def without_waiting(self):
        self.ensure_connection()
        self.connection.execute(f"PRAGMA busy_timeout = {HARDLY_MS}")
        try:
            yield
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
