"""Ring three: what is refused at the statement, the fetch and the commit, and what each engine does not let through."""

import logging

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

from scans.models import ScanProfile
from tenants.backends.guard import BREAKS_TRANSACTION
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.models import Tenant
from tests.invariants.work import add, names

SELECT = "SELECT name FROM scans_scanprofile"
CURSOR_USES = {
    "execute": lambda cursor: cursor.execute(SELECT),
    "executemany": lambda cursor: cursor.executemany("DELETE FROM scans_scanprofile WHERE name = %s", [["row"]]),
    "callproc": lambda cursor: cursor.callproc("p"),
    "fetchone": lambda cursor: cursor.fetchone(),
    "fetchmany": lambda cursor: cursor.fetchmany(1),
    "fetchall": lambda cursor: cursor.fetchall(),
    "iteration": lambda cursor: next(iter(cursor)),
    "rowcount": lambda cursor: cursor.rowcount,
    "description": lambda cursor: cursor.description,
    "the driver's connection": lambda cursor: cursor.connection,
}


def two_rows():
    add("row 1"), add("row 2")


@pytest.mark.parametrize("use", CURSOR_USES.values(), ids=CURSOR_USES.keys())
@pytest.mark.parametrize("is_debugged", [False, True])
def test_a_kept_cursor_is_no_use_elsewhere(acme, globex, use, is_debugged):
    with tenant_context("acme"):
        two_rows()
        connection.force_debug_cursor = is_debugged
        cursor = connection.cursor()
        connection.force_debug_cursor = False
        cursor.execute(SELECT)
    with pytest.raises(NoTenantError):
        use(cursor)
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        use(cursor)
    cursor.close()
    assert names("acme") == {"row 1", "row 2"}


def test_a_kept_method_of_a_cursor_is_no_use_elsewhere(acme, globex, installation):
    driver = {"sqlite": ("executescript", "fetchone"), "mysql": ("nextset", "fetchone")}[installation.engine]
    with tenant_context("acme"):
        two_rows()
        cursor = connection.cursor()
        cursor.execute(SELECT)
        methods = [getattr(cursor, name) for name in ("execute", "fetchall", *driver)]
    with tenant_context("globex"):
        for method in methods:
            with pytest.raises(WrongTenantError):
                method("DELETE FROM scans_scanprofile") if "execute" in method.__name__ else method()
    cursor.close()
    assert names("acme") == {"row 1", "row 2"}


def rows_of_a_queryset():
    return ScanProfile.objects.filter(name__startswith="row").iterator(chunk_size=1)


def rows_of_a_cursor():
    cursor = connection.cursor()
    cursor.execute(SELECT)
    return iter(cursor)


@pytest.mark.parametrize("rows", [rows_of_a_queryset, rows_of_a_cursor])
def test_an_iterator_opened_in_one_tenant_gives_no_row_in_another(acme, globex, rows):
    with tenant_context("acme"):
        two_rows()
        kept = rows()
        next(kept)
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        next(kept)


def test_what_is_sent_is_refused_before_it_is_sent(acme, globex):
    sent = []

    def record(execute, sql, params, many, context):
        sent.append(sql)
        return execute(sql, params, many, context)

    with tenant_context("acme"):
        kept = connections["default"]
        cursor = kept.cursor()
        kept.connection = _Recorder(kept.connection, sent)
        cursor.cursor = _Recorder(cursor.cursor, sent)
    with tenant_context("globex"):
        for use in (lambda: cursor.execute(SELECT), kept.commit, lambda: cursor.fetchone(), kept.cursor):
            with pytest.raises(WrongTenantError):
                use()
    assert set(sent) <= {"close"}


class _Recorder:
    """The driver's object, noting what is asked of it."""

    def __init__(self, driver, sent):
        self.driver, self.sent = driver, sent

    def __getattr__(self, name):
        self.sent.append(name)
        return getattr(self.driver, name)


# Transactions that cannot be ended half-way

ENDING = [
    "CREATE TABLE x (id int)",
    "create table x (id int)",
    "  \n CREATE TABLE x (id int)",
    "/* why */ CREATE TABLE x (id int)",
    "-- why\nCREATE TABLE x (id int)",
    "# why\nCREATE TABLE x (id int)",
    "/*!40000 CREATE TABLE x (id int) */",
    "/*M!100100 CREATE TABLE x (id int) */",
    "/* why */ /*! CREATE TABLE x (id int) */",
    "CREATE/**/TABLE x (id int)",
    "CREATE INDEX i ON scans_scanprofile (name)",
    "ALTER TABLE scans_scanprofile ADD x int",
    "DROP TABLE scans_scanprofile",
    "TRUNCATE scans_scanprofile",
    "RENAME TABLE scans_scanprofile TO x",
    "ANALYZE TABLE scans_scanprofile",
    "OPTIMIZE TABLE scans_scanprofile",
    "REPAIR TABLE scans_scanprofile",
    "CHECK TABLE scans_scanprofile",
    "CACHE INDEX scans_scanprofile IN hot",
    "FLUSH TABLES",
    "RESET QUERY CACHE",
    "LOCK TABLES scans_scanprofile WRITE",
    "UNLOCK TABLES",
    "GRANT SELECT ON *.* TO x",
    "REVOKE SELECT ON *.* FROM x",
    "INSTALL SONAME 'x'",
    "START TRANSACTION",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK WORK",
    "XA START 'x'",
    "SET autocommit=1",
    "SET @@autocommit = 1",
    "SET SESSION autocommit=1",
    "SET @@session.autocommit=1",
    "SET sql_safe_updates=0, autocommit=1",
    "SET PASSWORD = ''",
    "SET ROLE NONE",
    "SET STATEMENT max_statement_time=9 FOR CREATE TABLE x (id int)",
    "EXECUTE IMMEDIATE 'CREATE TABLE x (id int)'",
    "PREPARE s FROM 'CREATE TABLE x (id int)'",
    "CALL p()",
    "IF 1 THEN CREATE TABLE x (id int); END IF",
    "BEGIN NOT ATOMIC CREATE TABLE x (id int); END",
    "LOOP CREATE TABLE x (id int); END LOOP",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE scans_scanprofile",
]
ENDING_ON_SQLITE = [
    "COMMIT",
    "commit transaction",
    "; COMMIT",
    "\ufeffCOMMIT",
    "\n\f /* why */ -- why\nEND",
    "ROLLBACK",
    "ROLLBACK TRANSACTION",
    "BEGIN",
]
LET_THROUGH = [
    SELECT,
    f"({SELECT})",
    "/* create */ " + SELECT,
    "-- drop\n" + SELECT,
    "INSERT INTO created VALUES (1)",
    "UPDATE x SET autocommit = 1",
    "DELETE FROM dropped",
    "WITH creates AS (SELECT 1) SELECT * FROM creates",
    "SAVEPOINT s",
    "RELEASE SAVEPOINT s",
    "ROLLBACK TO SAVEPOINT s",
    "ROLLBACK WORK TO s",
    "SET foreign_key_checks = 0",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "CHECKSUM TABLE x",
    "SHOW CREATE TABLE x",
    "EXPLAIN SELECT 1",
]


@pytest.mark.parametrize("begin", [lambda: transaction.atomic().__enter__(), lambda: transaction.set_autocommit(False)])
def test_no_statement_commits_the_transaction_that_it_stands_in(acme, installation, begin):
    for statement in ENDING if installation.engine == "mysql" else ENDING_ON_SQLITE:
        with pytest.raises(WrongTenantError, match="rolled back"), tenant_context("acme"):
            begin()
            add("row")
            with connection.cursor() as cursor:
                with pytest.raises(TransactionManagementError, match="would end the transaction"):
                    cursor.execute(statement)
                with pytest.raises(TransactionManagementError, match="would end the transaction"):
                    cursor.executemany(statement, [[]])
        assert names("acme") == set(), statement


@pytest.mark.parametrize("statement", LET_THROUGH)
def test_statements_of_everyday_are_let_through(acme, statement):
    with tenant_context(acme):
        assert not connection.ends_transaction.match(statement)


def test_the_migration_account_may_run_ddl_in_a_transaction(acme):
    with fleet_context("acme", "migration"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made_in_a_transaction (id int)")
        cursor.execute("DROP TABLE made_in_a_transaction")


@pytest.mark.parametrize("code", sorted(BREAKS_TRANSACTION))
def test_nothing_is_committed_after_an_error_that_broke_the_transaction(acme, code):
    """Driver errors as the server sends them; a lock wait that really happens is below."""

    def fail(*args):
        raise connection.Database.OperationalError(code, "from the server")

    with tenant_context("acme"):
        with transaction.atomic():
            add("row 1")
            with connection.cursor() as cursor:
                cursor.cursor = _Failing(cursor.cursor)
                _Failing.error = connection.Database.OperationalError(code, "from the server")
                with pytest.raises(OperationalError):
                    cursor.execute(SELECT)
            with pytest.raises(TransactionManagementError):
                add("row 2")
        assert not connection.needs_rollback
    assert names("acme") == set()


class _Failing:
    error: Exception

    def __init__(self, cursor):
        self.close = cursor.close

    def execute(self, *args):
        raise self.error


def test_a_lock_that_is_waited_for_in_vain_commits_neither_half(acme, installation):
    """On SQLite the second writer waits at its first statement; on MariaDB at the row."""
    with tenant_context("acme"):
        add("row 0")
    if installation.engine == "sqlite":
        return_after = "PRAGMA busy_timeout = 50"
        blocker = _raw(acme, installation)
        blocker.execute("BEGIN IMMEDIATE")
    else:
        return_after = "SET innodb_lock_wait_timeout = 1"
        blocker = _raw(acme, installation)
        blocker.execute("BEGIN")
        blocker.execute("UPDATE scans_scanprofile SET engines = '{}' WHERE name = 'row 0'")
    try:
        with tenant_context("acme"):
            with connection.cursor() as cursor:
                cursor.execute(return_after)
            with pytest.raises((OperationalError, TransactionManagementError)), transaction.atomic():
                add("row 1")
                try:
                    ScanProfile.objects.filter(name="row 0").update(engines={"tls": {}})
                except OperationalError:
                    logging.getLogger(__name__).info("swallowed")
                add("row 2")
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert names("acme") == {"row 0"}


def _raw(tenant, installation):
    if installation.engine == "sqlite":
        import sqlite3

        return sqlite3.connect(installation.home / "tenants" / f"{tenant.alias}.sqlite3", isolation_level=None)
    cursor = installation.admin.cursor()
    cursor.execute(f"USE {tenant.alias}")
    return cursor


def test_what_post_migrate_makes_is_the_bound_databases(acme):
    with fleet_context("acme", "migration"):
        Permission.objects.all().delete()
        ContentType.objects.all().delete()
        call_command("migrate", verbosity=0)
        assert Permission.objects.filter(content_type__app_label="scans").exists()


def test_flush_is_refused_in_every_plane(acme, globex):
    with tenant_context("acme"):
        add("row")
    for binding in (fleet_context("acme", "migration"), control_plane()):
        with binding, pytest.raises(CommandError, match="audit"):
            call_command("flush", interactive=False, verbosity=0)
    assert names("acme") == {"row"}
    with control_plane():
        assert Tenant.objects.count() == 2
