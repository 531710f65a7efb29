"""MariaDB and MySQL with the guard, strict mode, UTC, one charset, and a limit on every wait."""

from django.db.backends.mysql import base

from tenants.backends.guard import GuardedWrapper

SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# Seconds without a byte from the server before the client gives up: a stopped server must not stop us with it.
READ_TIMEOUT = {"runtime": 5, "migration": 600, "admin": 60}
LOCK_TIMEOUT = 5  # seconds; the default for metadata locks is a day, and a waiting ALTER blocks every plain SELECT


class DatabaseWrapper(GuardedWrapper, base.DatabaseWrapper):
    ddl_commits = True

    def get_connection_params(self):
        params = super().get_connection_params()
        read_timeout = READ_TIMEOUT[self.account]
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
                f"lock_wait_timeout={LOCK_TIMEOUT}"
            ),
        }
