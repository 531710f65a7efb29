"""MariaDB and MySQL with the guard, strict mode, UTC, one charset, and a limit on every wait."""

import re
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.mysql import base
from django.db.backends.mysql.operations import DatabaseOperations as MySQLOperations
from django.utils.functional import cached_property

from tenants.backends.guard import GuardedWrapper
from tenants.backends.mysql.patience import PatientConnection
from tenants.planes import Plane

SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# Seconds without a byte from the server before the client gives up: a stopped server must not stop us with it.
READ_TIMEOUT = {"runtime": 5, "migration": 600, "admin": 60}
LOCK_TIMEOUT = 5  # seconds; the default for metadata locks is a day, and a waiting ALTER blocks every plain SELECT
# Seconds without a statement before MariaDB undoes an open transaction: a process that was stopped in the middle of one
# would keep its locks for ever. Less than a lease; nothing here waits for anybody else inside a transaction.
IDLE_TRANSACTION_TIMEOUT = 15
NO_SUCH_TABLE, NO_SUCH_COLUMN, BROKEN_VIEW = 1146, 1054, 1356
LOCKED = (1205, 3572)  # MariaDB's and MySQL's answer to NOWAIT
READ_ONLY = (1290, 1836)  # by an option, read_only for one; by InnoDB's being read-only
# Statements that end the open transaction on MySQL and MariaDB, even when they are then refused; and those that can
# carry one: prepared, compound and executable comments. Django's own ROLLBACK TO SAVEPOINT is let through.
ENDS_TRANSACTION = re.compile(
    r"(?:\s|/\*(?![!M]).*?\*/|--[^\n]*\n|#[^\n]*\n|\()*"
    r"(?:/\*[!M]|SET\b.*\b(?:autocommit|PASSWORD|ROLE|STATEMENT)\b|ROLLBACK\b(?!\s+(?:WORK\s+)?TO\b)|(?:"
    r"CREATE|ALTER|DROP|TRUNCATE|RENAME|ANALYZE|OPTIMIZE|REPAIR|CHECK|CACHE|LOAD|FLUSH|RESET|LOCK|UNLOCK|GRANT|REVOKE|"
    r"INSTALL|UNINSTALL|START|STOP|CHANGE|SHUTDOWN|BACKUP|XA|BEGIN|COMMIT|CALL|PREPARE|EXECUTE|IF|CASE|LOOP|WHILE|REPEAT|"
    r"FOR)\b)",
    re.IGNORECASE | re.DOTALL,
)
_server_data: dict[tuple[str, object] | None, dict[str, Any]] = {}


class DatabaseOperations(MySQLOperations):
    def execute_sql_flush(self, sql_list):
        """As Django's, without the transaction, which the first TRUNCATE would end."""
        with self.connection.cursor() as cursor:
            for sql in sql_list:
                cursor.execute(sql)


class PatientWrapper(base.DatabaseWrapper):
    """Opens connections that do not wait for a server that is gone, except for what may take long: fleet commands."""

    account: Any
    server_address: Any

    def get_new_connection(self, conn_params):
        if self.account != "runtime":
            return super().get_new_connection(conn_params)
        return PatientConnection(self.server_address, **conn_params)

    def is_usable(self):
        """Django's sends a ping, for which the driver would wait as long as for any statement."""
        try:
            self.connection.query(b"DO 0")
        except base.Database.Error:
            return False
        return True


class DatabaseWrapper(GuardedWrapper, PatientWrapper):
    ends_transaction = ENDS_TRANSACTION
    ops_class = DatabaseOperations

    @cached_property
    def mysql_server_data(self):
        """Asked once of each server. Unbound work, which only wants the dialect, gets what was heard first."""
        server = None if self.alias == DEFAULT_DB_ALIAS else (self.settings_dict["HOST"], self.settings_dict["PORT"])
        if server not in _server_data:
            _server_data[server] = super().mysql_server_data
            _server_data.setdefault(None, _server_data[server])
        return _server_data[server]

    @cached_property
    def server_address(self):
        if self.account != "runtime" or self.alias in (DEFAULT_DB_ALIAS, Plane.CONTROL):
            return None
        return str(self.settings_dict["HOST"]), str(self.settings_dict["PORT"])

    def says_nobody(self, error):
        return error.args[0] in (NO_SUCH_TABLE, NO_SUCH_COLUMN, BROKEN_VIEW)

    def says_missing(self, error):
        return error is not None and error.args[0] in (NO_SUCH_TABLE, NO_SUCH_COLUMN)

    def says_read_only(self, error):
        return error is not None and error.args[0] in READ_ONLY

    def says_locked(self, error):
        return error is not None and error.args[0] in LOCKED

    def get_connection_params(self):
        params = super().get_connection_params()
        read_timeout = READ_TIMEOUT[self.account]
        # Django would send a statement of its own for it. The two servers call it by different names.
        level, self.isolation_level = (self.isolation_level or "read committed").upper().replace(" ", "-"), None
        # MySQL has no such limit.
        idle = f", idle_transaction_timeout={IDLE_TRANSACTION_TIMEOUT}" if self.account == "runtime" else ""
        return params | {
            "charset": "utf8mb4",
            "autocommit": True,
            "local_infile": 0,  # on by default: the client would send files of its own host
            "multi_statements": False,
            "connect_timeout": 2,
            "read_timeout": read_timeout,
            "write_timeout": read_timeout,
            "init_command": (
                f"SET sql_mode='{SQL_MODE}', time_zone='+00:00', innodb_lock_wait_timeout={LOCK_TIMEOUT}, "
                f"lock_wait_timeout={LOCK_TIMEOUT} "
                f"/*M! , tx_isolation='{level}'{idle} */ /*!80000 , transaction_isolation='{level}' */"
            ),
        }
