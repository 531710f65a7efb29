"""
A whole installation per database engine, made by the product's own code, and put back after each test.

Nothing runs in a transaction that is rolled back: tests commit as the product does. What they changed is restored
from a copy: files on SQLite, the tables whose checksum differs on MariaDB.
"""

import shutil
from pathlib import Path

import MySQLdb
from django.conf import settings
from django.core.management import call_command

from tenants import connections, secrets
from tenants.context import control_plane, tenant_context
from tenants.embedded import MariaDB
from tenants.models import DatabaseServer
from tenants.registry import registry
from tenants.secrets import Secret, seal
from tenants.services import create_tenant, prepare_home

PASSWORD = "correct horse battery staple"


class Installation:
    """``acme`` with the owner alice and the tester tom, ``globex`` with the owner mallory, the operator oscar."""

    def __init__(self, home: Path):
        self.home = home
        self._use_control()
        prepare_home()
        with control_plane():
            call_command("migrate", verbosity=0)
            self._add_server()
        create_tenant(slug="acme", name="Acme")
        create_tenant(slug="globex", name="Globex")
        self._add_people()
        self.forget()
        self._keep()

    def _add_people(self):
        from django.contrib.auth import get_user_model

        User = get_user_model()
        for slug, people in {"acme": [("alice", "owner"), ("tom", "tester")], "globex": [("mallory", "owner")]}.items():
            with tenant_context(slug):
                for username, role in people:
                    User.objects.create_user(username, PASSWORD, role=role)
        with control_plane():
            User.objects.create_superuser("oscar", PASSWORD)

    def forget(self):
        """What this process remembers, in every thread."""
        from django.contrib.contenttypes.models import ContentType

        from tenants import breakers
        from tenants.accounts import logins

        connections.close_tenant_connections()
        for wrapper in list(connections._all_wrappers):
            wrapper.retired = True
            if wrapper.vendor == "sqlite" and wrapper.connection is not None:
                wrapper.connection.close()  # of an idle thread: a child forked later could not use its file
                wrapper.connection = None
        ContentType.objects.clear_cache()
        registry.clear()
        logins.forget()
        breakers.start_over()
        secrets._given_up.clear()

    def restore(self):
        self.forget()
        self._put_back()

    def use(self):
        """Several engines share a process: this one's control database is in force until the next one's is."""
        self.forget()
        self._use_control()


class SQLiteInstallation(Installation):
    engine = "sqlite"

    def _use_control(self):
        settings.BULKHEAD_HOME = self.home
        settings.DATABASES["control"].update(
            connections.complete({"ENGINE": "tenants.backends.sqlite", "NAME": str(self.home / "control.sqlite3")})
        )

    def _add_server(self):
        pass  # the embedded default makes its own

    def _keep(self):
        self._copies = {}
        for path in self._files():
            self._copies[path] = self.home / "copies" / path.name
            self._copies[path].parent.mkdir(exist_ok=True)
            shutil.copy(path, self._copies[path])

    def _files(self):
        return [self.home / "control.sqlite3", *(self.home / "tenants").glob("*.sqlite3")]

    def _put_back(self):
        for path in (*self.home.glob("control.sqlite3-*"), *(self.home / "tenants").iterdir()):
            path.unlink()
        for path, copy in self._copies.items():
            path.unlink(missing_ok=True)
            shutil.copy(copy, path)


class MySQLInstallation(Installation):
    engine = "mysql"

    def __init__(self, home: Path, server: MariaDB):
        self.server = server
        self.admin = MySQLdb.connect(
            host=server.host, port=server.port, user=server.user, passwd=server.password, autocommit=True
        )
        self._control_password = Secret("control-" + server.password)
        self._sql("CREATE DATABASE control_plane COLLATE utf8mb4_unicode_ci")
        self._sql(f"CREATE USER control@`%` IDENTIFIED BY '{self._control_password!s}'")
        self._sql(r"GRANT ALL ON `control\_plane`.* TO control@`%`")
        super().__init__(home)

    def _sql(self, statement: str) -> list[tuple]:
        with self.admin.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _use_control(self):
        settings.BULKHEAD_HOME = self.home
        settings.DATABASES["control"].update(
            connections.complete(
                {
                    "ENGINE": "tenants.backends.mysql",
                    "NAME": "control_plane",
                    "USER": "control",
                    "PASSWORD": self._control_password,
                    "HOST": self.server.host,
                    "PORT": self.server.port,
                }
            )
        )

    def _add_server(self):
        DatabaseServer.objects.create(
            name="maria",
            engine="mysql",
            host=self.server.host,
            port=self.server.port,
            admin_user=self.server.user,
            sealed_admin_password=seal(
                self.server.password, key="fleet", tenant="server maria", field="admin_password", version=1
            ),
        )

    def _keep(self):
        self._databases = self._database_names()
        self._users = self._user_names()
        ours = [name for name in self._databases if name == "control_plane" or name.startswith("t_")]
        self._tables = {}
        for database in ours:
            self._sql(f"CREATE DATABASE copy_{database}")
            for table, _ in self._sql(f"SHOW FULL TABLES FROM {database} WHERE Table_type = 'BASE TABLE'"):
                self._tables[f"{database}.{table}"] = f"copy_{database}.{table}"
                self._sql(f"CREATE TABLE copy_{database}.{table} LIKE {database}.{table}")
                self._sql(f"INSERT INTO copy_{database}.{table} SELECT * FROM {database}.{table}")
        self._databases = self._database_names()
        self._checksums = self._checksum()
        self._identities = self._views()

    def _database_names(self):
        return {name for (name,) in self._sql("SHOW DATABASES")}

    def _user_names(self):
        return {tuple(row) for row in self._sql("SELECT User, Host FROM mysql.user")}

    def _checksum(self):
        return dict(self._sql("CHECKSUM TABLE " + ", ".join(self._tables)))

    def _views(self):
        views = "SELECT TABLE_SCHEMA, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA LIKE 't%'"
        return self._sql(views)

    def _put_back(self):
        for database in self._database_names() - self._databases:
            self._sql(f"DROP DATABASE `{database}`")
        for user, host in self._user_names() - self._users:
            self._sql(f"DROP USER `{user}`@`{host}`")
        now = self._checksum()
        changed = [table for table, checksum in self._checksums.items() if now[table] != checksum]
        if changed:
            self._sql("SET foreign_key_checks = 0")
            for table in changed:
                self._sql(f"TRUNCATE {table}" if "audit" in table else f"DELETE FROM {table}")  # kept against DELETE
                self._sql(f"INSERT INTO {table} SELECT * FROM {self._tables[table]}")
            self._sql("SET foreign_key_checks = 1")
        if self._views() != self._identities:
            for database, definition in self._identities:
                self._sql(f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {database}.tenant_identity AS {definition}")
