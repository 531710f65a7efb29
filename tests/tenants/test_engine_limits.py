"""What SQL cannot do on either engine, whoever writes it, and what every session is set to."""

import stat

import pytest
from django.db import DatabaseError, OperationalError, connection, connections

from scans.models import ScanProfile
from tenants.context import control_plane, tenant_context
from tenants.models import Tenant
from tests.invariants.work import add, names


def test_sql_opens_no_other_database(acme, globex, installation):
    path = installation.home / "tenants" / f"{globex.alias}.sqlite3"
    statements = {
        "sqlite": [
            f"ATTACH DATABASE '{path}' AS other",
            f"VACUUM INTO '{installation.home / 'copy.sqlite3'}'",
            "SELECT load_extension('x')",
        ],
        "mysql": [
            f"SELECT * FROM {globex.alias}.scans_scanprofile",
            f"INSERT INTO {globex.alias}.scans_scanprofile (name) VALUES ('row')",
            f"USE {globex.alias}",
            "SELECT * FROM control_plane.tenants_tenant",
            "SELECT * FROM mysql.user",
            "CREATE DATABASE x",
            "CREATE TABLE x (id int)",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT LOAD_FILE('/etc/passwd') FROM mysql.user",
            "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE scans_scanprofile (name)",
            "SELECT 1; DELETE FROM scans_scanprofile",
            "SET GLOBAL max_connections = 1",
            "CREATE USER x",
        ],
    }
    with tenant_context("acme"):
        add("row")
        for statement in statements[installation.engine]:
            with pytest.raises(DatabaseError), connection.cursor() as cursor:
                cursor.execute(statement)
                pytest.fail(statement)
    assert names("acme") == {"row"}
    assert names("globex") == set()
    assert not (installation.home / "copy.sqlite3").exists()


def test_a_session_is_strict_bounded_and_of_one_charset(acme, installation):
    with tenant_context("acme"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        if installation.engine == "sqlite":
            settings = {name: _pragma(cursor, name) for name in ("journal_mode", "foreign_keys")}
            assert settings == {"journal_mode": "wal", "foreign_keys": 1}
            assert connection.transaction_mode == "IMMEDIATE"
            assert connection.connection.getlimit(7) == 0
            return
        cursor.execute(
            "SELECT @@sql_mode LIKE '%%STRICT_ALL_TABLES%%', @@time_zone, @@character_set_connection, "
            "@@innodb_lock_wait_timeout, @@lock_wait_timeout, @@collation_database, "
            "@@tx_isolation, @@idle_transaction_timeout, @@max_statement_time"
        )
        *session, seconds = cursor.fetchone()
        assert session == [1, "+00:00", "utf8mb4", 5, 5, "utf8mb4_unicode_ci", "READ-COMMITTED", 15]
        assert 0 < seconds <= 30
        parameters = connection.get_connection_params()
        assert (parameters["connect_timeout"], parameters["read_timeout"], parameters["write_timeout"]) == (2, 5, 5)


def _pragma(cursor, name):
    cursor.execute(f"PRAGMA {name}")
    return cursor.fetchone()[0]


def test_options_of_an_installation_cannot_take_the_limits_away(acme, installation):
    if installation.engine == "sqlite":
        options = {"transaction_mode": "DEFERRED", "uri": False}
        expected = {"uri": True}
    else:
        options = {
            "local_infile": 1,
            "multi_statements": True,
            "charset": "latin1",
            "init_command": "",
            "read_timeout": 0,
        }
        expected = {"local_infile": 0, "multi_statements": False, "charset": "utf8mb4", "read_timeout": 5}
    with tenant_context("acme"):
        wrapper = connections["default"]
        wrapper.settings_dict = wrapper.settings_dict | {"OPTIONS": options}
        parameters = wrapper.get_connection_params()
        wrapper.retired = True
    assert {name: parameters[name] for name in expected} == expected


def test_identifiers_are_compared_byte_by_byte(acme):
    with control_plane():
        for alike in ("ACME", "Acme", "acme ", "ácme", "acme\u200b", "ａｃｍｅ"):
            assert not Tenant.objects.filter(slug=alike).exists(), alike
        assert Tenant.objects.filter(slug="acme").exists()
    with tenant_context("acme"):
        for name in ("row", "ROW", "row ", "rôw"):
            add(name)
        assert ScanProfile.objects.filter(name="row").count() == 1


def test_a_database_that_is_missing_is_an_error_and_is_not_made(acme, installation):
    path = installation.home / "tenants" / f"{acme.alias}.sqlite3"
    with tenant_context("acme"):
        wrapper = connections["default"]
        if installation.engine == "sqlite":
            path.unlink()
        else:
            wrapper.settings_dict = wrapper.settings_dict | {"NAME": f"{acme.alias}0"}
        with pytest.raises(OperationalError):
            ScanProfile.objects.count()
        wrapper.retired = True
    assert not path.exists()


def test_files_are_for_this_user_alone(acme, installation):
    with tenant_context("acme"):
        add("row")
        files = [*installation.home.glob("*.sqlite3*"), *(installation.home / "tenants").glob("*")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert set(modes.values()) == ({0o600} if installation.engine == "sqlite" else set())
    assert {stat.S_IMODE((installation.home / name).stat().st_mode) for name in ("", "keys")} == {0o700}
