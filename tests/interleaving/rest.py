"""
The databases at rest, read and put back through channels that are none of the product's: the sqlite3 module, and an
administrator's own connection.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import MySQLdb

from tests.interleaving.canaries import Misdirected, require_own
from tests.interleaving.ledger import Ledger

# Children first. What else there is (migrations, permissions, the standard profile) is read, and left alone.
TABLES = (
    "scans_occurrence",
    "scans_finding",
    "scans_scanrun",
    "scans_taskqueue",
    "scans_scan",
    "scans_authorization",
    "scans_target",
    "scans_scanprofile",
    "accounts_user_groups",
    "auth_group",
    "accounts_user",
    "django_content_type",
)
Rows = dict[str, list[tuple]]


class Rest:
    """``paths`` maps tenants to databases; ``None`` is control."""

    def tables(self, tenant: int | None) -> Rows:
        raise NotImplementedError

    def replace(self, tenant: int, rows: Rows) -> None:
        raise NotImplementedError

    def keep(self, tenants: int) -> None:
        """What the tenants hold now is what ``put_back`` restores."""
        self.kept = {tenant: self.tables(tenant) for tenant in range(tenants)}

    def put_back(self) -> None:
        for tenant, kept in self.kept.items():
            now = self.tables(tenant)
            changed = {table: kept[table] for table in TABLES if sorted(now[table], key=repr) != kept[table]}
            if changed:
                self.replace(tenant, changed)

    def check(self, ledgers: list[Ledger]) -> None:
        """Raises ``ForeignCanary`` or ``Misdirected``."""
        for ledger in ledgers:
            rows = self.tables(ledger.tenant)
            for table, content in rows.items():
                require_own(ledger.tenant, content, f"At rest in {table}")
            self._check_content(ledger, rows)
        require_own(None, self.tables(None), "At rest in control")

    def _check_content(self, ledger: Ledger, rows: Rows) -> None:
        columns = self.columns
        for name, table, key, text in (
            ("targets", "scans_target", "id", "name"),
            ("groups", "auth_group", "id", "name"),
            ("scans", "scans_scan", "number", "message"),
        ):
            names = columns[table]
            found = {_plain(row[names.index(key)]): row[names.index(text)] for row in rows[table]}
            ledger.require(name, found, "At rest")
        names = columns["scans_taskqueue"]
        tasks = {
            row[names.index("id")]: (_plain(row[names.index("message_id")]), row[names.index("dispatches")])
            for row in rows["scans_taskqueue"]
        }
        ledger.require("tasks", tasks, "At rest")
        names = columns["scans_authorization"]
        proofs = {
            _plain(row[names.index("id")]): (_plain(row[names.index("target_id")]), row[names.index("statement")])
            for row in rows["scans_authorization"]
        }
        ledger.require("authorizations", proofs, "At rest")
        found = {row[columns["accounts_user_groups"].index("group_id")] for row in rows["accounts_user_groups"]}
        ledger.require("members", found, "At rest")
        for table in TABLES if ledger.is_strict else ():
            if any(f"canary-{ledger.tenant:02d}-" not in str(row) and "ca9aca9a" not in str(row) for row in rows[table]
                   if table not in ("accounts_user_groups", "django_content_type", "scans_scanprofile")):  # fmt: skip
                raise Misdirected(f"A row of {table} in tenant {ledger.tenant} has no canary: {rows[table]}")


def _plain(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) and len(value) in (32, 36) else value


class SQLiteRest(Rest):
    def __init__(self, paths: dict[int | None, Path]):
        self.paths = paths
        self.columns: dict[str, list[str]] = {}

    def _open(self, tenant: int | None):
        return closing(sqlite3.connect(f"file:{self.paths[tenant]}?mode=rw", uri=True, isolation_level=None))

    def tables(self, tenant: int | None) -> Rows:
        with self._open(tenant) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {}
            for name in names:
                cursor = database.execute(f'SELECT * FROM "{name}"')
                self.columns[name] = [column[0] for column in cursor.description]
                rows[name] = sorted(cursor.fetchall(), key=repr)
            return rows

    def replace(self, tenant: int, rows: Rows) -> None:
        with self._open(tenant) as database:
            database.execute("BEGIN IMMEDIATE")
            for table in rows:
                database.execute(f'DELETE FROM "{table}"')
                for row in rows[table]:
                    database.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(row))})', row)
            database.execute("COMMIT")

    def connections(self) -> int:
        """There is no server that counts them: a connection is an open file."""
        return 0

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"


class MySQLRest(Rest):
    """``paths`` maps tenants to the names of their databases."""

    def __init__(self, paths: dict[int | None, str], **login: Any):
        self.paths = paths
        self.columns: dict[str, list[str]] = {}
        self.admin = MySQLdb.connect(**login, autocommit=True, charset="utf8mb4")
        self._ask("SET foreign_key_checks = 0")

    def _ask(self, statement: str, values: tuple = ()) -> list[tuple]:
        with self.admin.cursor() as cursor:
            cursor.execute(statement, values or None)
            self._described = [column[0] for column in cursor.description or ()]
            return list(cursor.fetchall())

    def tables(self, tenant: int | None) -> Rows:
        database, rows = self.paths[tenant], {}
        for (name,) in self._ask(f"SHOW TABLES FROM `{database}`"):
            content = self._ask(f"SELECT * FROM `{database}`.`{name}`")
            self.columns[name] = self._described
            rows[name] = sorted(content, key=repr)
        return rows

    def replace(self, tenant: int, rows: Rows) -> None:
        for table, content in rows.items():
            name = f"`{self.paths[tenant]}`.`{table}`"
            self._ask(f"DELETE FROM {name}")
            for row in content:
                self._ask(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)

    def connections(self) -> int:
        """Those of tenants' accounts and of control."""
        return sum(1 for row in self._ask("SHOW PROCESSLIST") if row[1] not in ("bulkhead", "system user"))

    def version(self) -> str:
        return f"MariaDB {self._ask('SELECT VERSION()')[0][0]}"
