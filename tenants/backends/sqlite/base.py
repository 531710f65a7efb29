"""SQLite with the guard. One file per database, mode 0600, made by the provisioner and never by connecting to it."""

import sqlite3
from urllib.parse import quote

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from tenants import connections
from tenants.backends.guard import GuardedWrapper


class DatabaseWrapper(GuardedWrapper, base.DatabaseWrapper):
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
        return connection
