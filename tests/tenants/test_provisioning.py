"""A tenant's database: made for itself alone, made again after an accident, and gone without a trace."""

import sqlite3
import stat
from contextlib import closing, nullcontext

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from scans.models import ScanProfile
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, server_plane, tenant_context
from tenants.exceptions import ProvisioningError
from tenants.models import DatabaseServer, Tenant
from tenants.provisioning import PROVISIONERS, sqlite
from tenants.services import add_database_server, create_tenant


@pytest.fixture
def directory(installation):
    return settings.BULKHEAD_HOME / "tenants"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_whatever_an_accident_left_under_the_name_is_not_trusted(acme, installation):
    """A row that another life of the database held must not be served to the new tenant."""
    provisioner = PROVISIONERS[acme.server.engine]
    with tenant_context("acme"):
        ScanProfile.objects.create(name="left over", engines={"ports": {}})
    close_tenant_connections()

    with control_plane(), server_plane(acme.server) if provisioner.HAS_ACCOUNTS else nullcontext():
        users = list_users(acme)
        provisioner.drop_database(acme.alias, users)
        provisioner.drop_database(acme.alias, users)  # again, as after a kill
        provisioner.create_database(acme.alias)
        provisioner.create_database(acme.alias)

    assert [name for (name,) in tables(acme, installation)] == ["tenant_identity"]


def list_users(tenant):
    return ["r1_nobody", "m1_nobody"] if tenant.server.engine == "mysql" else []


def tables(tenant, installation):
    try:
        if installation.engine == "mysql":
            return installation._sql(f"SHOW TABLES FROM `{tenant.alias}`")
        with closing(sqlite3.connect(sqlite.path_of(tenant.alias))) as handle:
            return handle.execute("SELECT name FROM sqlite_master").fetchall()
    finally:
        restore_tables(tenant, installation)


def restore_tables(tenant, installation):
    """On MariaDB the fixture puts rows back, not tables."""
    if installation.engine == "mysql":
        for table, copy in installation._tables.items():
            if table.startswith(tenant.alias):
                installation._sql(f"CREATE TABLE IF NOT EXISTS {table} LIKE {copy}")
                installation._sql(f"INSERT IGNORE INTO {table} SELECT * FROM {copy}")


class TestSQLite:
    pytestmark = pytest.mark.parametrize("_engine", ["sqlite"], ids=["SQLite"], indirect=True)

    def test_files_are_their_owners_alone_and_so_is_their_directory(self, acme, directory):
        with tenant_context("acme"):
            ScanProfile.objects.create(name="one", engines={"ports": {}})  # makes the journal and its index

            assert mode(directory) == 0o700
            assert {path.suffix for path in directory.glob(f"{acme.alias}*")} == {
                ".sqlite3",
                ".sqlite3-wal",
                ".sqlite3-shm",
            }
            assert {mode(path) for path in directory.iterdir()} == {0o600}

    def test_a_missing_file_is_an_error_and_no_new_database(self, acme, directory):
        close_tenant_connections()
        for path in directory.glob(f"{acme.alias}*"):
            path.unlink()

        with tenant_context("acme"), pytest.raises(OperationalError):
            ScanProfile.objects.count()

        assert list(directory.glob(f"{acme.alias}*")) == []

    def test_a_dropped_database_takes_its_journals_along(self, acme, directory):
        for suffix in ("-wal", "-shm", "-journal"):
            (directory / f"{acme.alias}.sqlite3{suffix}").touch()

        sqlite.drop_database(acme.alias, [])

        assert list(directory.glob(f"{acme.alias}*")) == []

    def test_a_journal_without_its_database_is_not_applied_to_the_next_one(self, acme, directory):
        with tenant_context("acme"):
            ScanProfile.objects.create(name="ghost", engines={"ports": {}})
        close_tenant_connections()
        path = sqlite.path_of(acme.alias)
        path.unlink()
        with closing(sqlite3.connect(path)) as handle:
            handle.execute("PRAGMA journal_mode = WAL")
            handle.execute("CREATE TABLE ghost (id)")
            path.unlink()  # under its own journal

            sqlite.drop_database(acme.alias, [])
            sqlite.create_database(acme.alias)

        with closing(sqlite3.connect(path)) as handle:
            assert handle.execute("SELECT name FROM sqlite_master").fetchall() == [("tenant_identity",)]

    def test_a_file_is_made_once_and_left_as_it_is(self, directory):
        sqlite.create_database("t_x_g1")
        path = sqlite.path_of("t_x_g1")
        with closing(sqlite3.connect(path)) as handle:
            handle.execute("CREATE TABLE kept (id)")

        sqlite.create_database("t_x_g1")

        with closing(sqlite3.connect(path)) as handle:
            names = handle.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
            assert names == [("kept",), ("tenant_identity",)]
            assert handle.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_full_disk_leaves_the_database_as_it_was(self, acme, globex):
        with tenant_context("acme"):
            ScanProfile.objects.create(name="before", engines={"ports": {}})
            with pytest.raises(OperationalError, match="full"), transaction.atomic(), connection.cursor() as cursor:
                handle = connection.connection
                handle.set_authorizer(None)  # which lets nobody say how large a file may be
                handle.execute(f"PRAGMA max_page_count = {handle.execute('PRAGMA page_count').fetchone()[0]}")
                for number in range(64):
                    row = [f"{number}", "x" * 2**20, "2000-01-01"]
                    cursor.execute("INSERT INTO django_session VALUES (%s, %s, %s)", row)
            connection.close()
            ScanProfile.objects.create(name="after", engines={"ports": {}})
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA integrity_check")
                assert cursor.fetchall() == [("ok",)]
                cursor.execute("SELECT COUNT(*) FROM django_session")
                assert cursor.fetchall() == [(0,)]

    def test_another_tenants_file_cannot_be_attached(self, acme, globex):
        with tenant_context("acme"), connection.cursor() as cursor, pytest.raises(OperationalError):
            cursor.execute("ATTACH %s AS other", [str(sqlite.path_of(globex.alias))])


class TestServers:
    pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)

    def add(self, installation, **changes):
        server = installation.server
        return add_database_server(
            **{
                "name": "second",
                "host": server.host,
                "port": server.port,
                "admin_user": server.user,
                "admin_password": server.password,
            }
            | changes
        )

    def test_a_server_is_tried_before_it_is_kept(self, installation):
        for changes in ({"port": 1}, {"admin_password": "wrong"}, {"admin_user": "nobody"}, {"name": "maria"}):
            with pytest.raises(ProvisioningError) as caught:
                self.add(installation, **changes)
            assert installation.server.password not in str(caught.value)

        with control_plane():
            assert list(DatabaseServer.objects.values_list("name", flat=True)) == ["maria"]

    def server_of_new(self, slug, server=None):
        tenant = create_tenant(slug=slug, server=server)
        with control_plane():
            return tenant.server.name

    def test_the_emptiest_server_that_accepts_tenants_is_chosen(self, installation):
        self.add(installation)
        assert self.server_of_new("first") == "second"  # two live on the other
        with control_plane():
            DatabaseServer.objects.filter(name="second").update(accepts_tenants=False)
        assert self.server_of_new("next") == "maria"
        with control_plane():
            DatabaseServer.objects.update(capacity=1)
        with pytest.raises(ProvisioningError, match="No database server accepts tenants"):
            create_tenant(slug="last")
        assert self.server_of_new("named", "second") == "second"
        with control_plane():
            assert not Tenant.objects.filter(slug="last").exists()
