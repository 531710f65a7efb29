"""Ring four: what MariaDB lets a tenant's two accounts do, and what it refuses them, by its error numbers."""

from contextlib import closing, contextmanager

import MySQLdb
import pytest
from django.db import OperationalError, ProgrammingError, connection

from scans.models import Target
from tenants.context import control_plane, fleet_context, provisioning_context, server_plane, tenant_context
from tenants.exceptions import ProvisioningError, SecretError
from tenants.models import DatabaseServer
from tenants.provisioning import mysql as provisioner
from tenants.secrets import give_up_fleet_key
from tenants.services import create_tenant, find_tenant, for_each_tenant
from tests.scans.scanning import manage

ACCOUNTS = {
    "runtime": ("SELECT, INSERT, UPDATE, DELETE", 40, 4),
    "migration": ("SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, TRIGGER", 4, 3600),
}
pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)


@pytest.fixture
def admin(installation):
    return installation._sql


def credential(tenant, account="runtime"):
    with control_plane():
        return tenant.credentials.get(account=account)


@contextmanager
def connected(tenant, account="runtime", **options):
    """As the tenant's account, past everything of ours: what the server itself allows."""
    one = credential(tenant, account)
    with control_plane():
        server = find_tenant(tenant.slug).server
        address = {"host": server.host, "port": server.port, "user": one.user, "passwd": str(one.unseal_password())}
    with closing(MySQLdb.connect(**address | {"db": tenant.alias, "autocommit": True} | options)) as handle:
        yield handle


def run(handle, sql):
    with closing(handle.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def error_of(act, *args):
    with pytest.raises(MySQLdb.Error) as caught:
        act(*args)
    return caught.value.args[0]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_is_granted_its_own_database_and_nothing_else(acme, admin, account):
    user = credential(acme, account).user
    privileges, connections, seconds = ACCOUNTS[account]

    usage, grant = [row[0] for row in admin(f"SHOW GRANTS FOR `{user}`@`%`")]

    assert grant == f"GRANT {privileges} ON `{acme.alias.replace('_', chr(92) + '_')}`.* TO `{user}`@`%`"
    assert usage.startswith(f"GRANT USAGE ON *.* TO `{user}`@`%` IDENTIFIED BY PASSWORD ")
    assert usage.endswith(f" WITH MAX_USER_CONNECTIONS {connections} MAX_STATEMENT_TIME {seconds}.000000")


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_database_whose_name_the_unescaped_pattern_matches_stays_closed(acme, admin, account):
    """The same account, granted the name as it stands, reads and writes it: the escape is what closes it."""
    user, decoy = credential(acme, account).user, acme.alias.replace("_", "x")
    admin(f"CREATE DATABASE {decoy}")
    admin(f"CREATE TABLE {decoy}.secret (word TEXT)")
    admin(f"INSERT INTO {decoy}.secret VALUES ('canary')")

    with connected(acme, account) as handle:
        assert error_of(run, handle, f"SELECT * FROM {decoy}.secret") in (1044, 1142)
        assert error_of(run, handle, f"USE {decoy}") == 1044
    admin(f"GRANT SELECT, INSERT ON `{acme.alias}`.* TO `{user}`@`%`")
    try:
        with connected(acme, account) as handle:
            run(handle, f"INSERT INTO {decoy}.secret VALUES ('written')")
            assert run(handle, f"SELECT * FROM {decoy}.secret") == (("canary",), ("written",))
    finally:
        admin(f"REVOKE ALL ON `{acme.alias}`.* FROM `{user}`@`%`")


REFUSALS = {
    "SELECT * FROM `{other}`.scans_target": {1142, 1044},
    "INSERT INTO `{other}`.scans_scancounter VALUES (2, 0)": {1142, 1044},
    "UPDATE `{other}`.scans_target SET name = ''": {1142, 1044},
    "DELETE FROM `{other}`.scans_target": {1142, 1044},
    "DROP TABLE `{other}`.scans_target": {1142, 1044},
    "CREATE TABLE `{other}`.planted (id INT)": {1142, 1044},
    "CREATE VIEW peek AS SELECT * FROM `{other}`.scans_target": {1142, 1044},
    "SELECT * FROM mysql.user": {1142, 1044},
    "SELECT * FROM control_plane.tenants_tenantkey": {1142, 1044},
    "USE `{other}`": {1044},
    "CREATE DATABASE planted": {1044},
    "DROP DATABASE `{other}`": {1044},
    "SELECT 1 INTO OUTFILE '/tmp/planted'": {1045, 1227},
    "SELECT LOAD_FILE('/etc/passwd') IS NULL": {None},
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE scans_target": {1045, 1227},
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE scans_target": {4166, 1148, 2068},
    "CREATE USER planted": {1227},
    "DROP USER `{user}`": {1227},
    "GRANT SELECT ON `{own}`.* TO `{other_user}`@`%`": {1044},
    "SET GLOBAL max_connections = 1": {1227},
    "SET PASSWORD FOR `{other_user}`@`%` = PASSWORD('x')": {1044, 1227},
    "KILL {admin_thread}": {1094, 1095},
    "SHUTDOWN": {1227},
    "CREATE FUNCTION planted RETURNS STRING SONAME 'planted.so'": {1044, 1142},
    "INSTALL SONAME 'planted'": {1142, 1044},
    "CREATE DEFINER=root@localhost TRIGGER planted BEFORE INSERT ON scans_target FOR EACH ROW SET @a = 1": {1142, 1227},
    "CREATE PROCEDURE planted() SELECT 1": {1044},
    "CREATE EVENT planted ON SCHEDULE EVERY 1 DAY DO SELECT 1": {1044},
    "FLUSH TABLES": {1227},
}
RUNTIME_REFUSALS = {
    "CREATE TABLE planted (id INT)": {1142},
    "ALTER TABLE scans_target ADD planted INT": {1142},
    "DROP TABLE scans_target": {1142},
    "TRUNCATE TABLE scans_target": {1142},
    "CREATE INDEX planted ON scans_target (name)": {1142},
    "CREATE TRIGGER planted BEFORE INSERT ON scans_target FOR EACH ROW SET @a = 1": {1142},
    "RENAME TABLE scans_target TO planted": {1142},
    "CREATE VIEW planted AS SELECT 1": {1142},
    "DROP DATABASE `{own}`": {1044},
    "LOCK TABLES scans_target WRITE": {1044},
}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_is_refused_whatever_is_not_its_own(acme, globex, admin, account):
    names = {
        "own": acme.alias,
        "other": globex.alias,
        "user": credential(acme).user,
        "other_user": credential(globex).user,
        "admin_thread": admin("SELECT CONNECTION_ID()")[0][0],
    }
    statements = REFUSALS | (RUNTIME_REFUSALS if account == "runtime" else {})

    answers = {}
    with connected(acme, account) as handle:
        for sql in statements:
            try:
                run(handle, sql.format(**names))
                answers[sql] = None
            except MySQLdb.Error as error:
                answers[sql] = error.args[0]

    assert {sql: code for sql, code in answers.items() if code not in statements[sql]} == {}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_does_what_it_is_for(acme, account):
    """The same statements' own side: the refusals above are not for want of a connection."""
    with connected(acme, account) as handle:
        run(handle, "INSERT INTO scans_scancounter VALUES (99, 0)")
        run(handle, "UPDATE scans_scancounter SET number = 1 WHERE id = 99")
        assert run(handle, "SELECT number FROM scans_scancounter WHERE id = 99") == ((1,),)
        run(handle, "DELETE FROM scans_scancounter WHERE id = 99")
        if account == "migration":
            run(handle, "CREATE TABLE made (id INT PRIMARY KEY)")
            run(handle, "ALTER TABLE made ADD name TEXT")
            run(handle, "DROP TABLE made")


def test_an_account_cannot_connect_to_another_tenants_database(acme, globex):
    for account in ACCOUNTS:
        with pytest.raises(MySQLdb.Error) as caught, connected(acme, account, db=globex.alias):
            pass
        assert caught.value.args[0] == 1044


def test_an_account_sees_its_own_threads_alone(acme, admin):
    with connected(acme) as handle, connected(acme):
        users = {row[1] for row in run(handle, "SHOW PROCESSLIST")}

    assert users == {credential(acme).user}


def test_a_tenant_that_takes_all_its_connections_takes_nobody_elses(installation, globex, monkeypatch):
    monkeypatch.setitem(provisioner.MAX_CONNECTIONS, "runtime", 3)
    greedy = create_tenant(slug="greedy")

    handles = []
    try:
        for _ in range(3):
            holder = connected(greedy)
            holder.__enter__()
            handles.append(holder)
        with pytest.raises(MySQLdb.Error) as caught, connected(greedy):
            pass
        assert caught.value.args[0] == 1226
        with tenant_context("greedy"), pytest.raises(OperationalError, match="1226"):
            Target.objects.count()
        with tenant_context("globex"):
            assert Target.objects.count() == 0
    finally:
        for holder in handles:
            holder.__exit__(None, None, None)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(installation, monkeypatch):
    monkeypatch.setitem(provisioner.MAX_STATEMENT_SECONDS, "runtime", 1)
    slow = create_tenant(slug="slow")

    with connected(slow) as handle:
        assert error_of(run, handle, "SELECT SLEEP(30)") == 1969
        assert run(handle, "SELECT 1") == ((1,),)


def test_our_own_connections_send_no_local_files_and_no_second_statement(acme):
    with tenant_context("acme"), connection.cursor() as cursor:
        with pytest.raises((OperationalError, ProgrammingError)) as caught:
            cursor.execute("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE scans_scancounter")
        assert caught.value.args[0] in (4166, 1148, 2068)
        with pytest.raises(ProgrammingError):
            cursor.execute("SELECT 1; SELECT 2")


UNSAFE = {
    "an anonymous account": (["CREATE USER ''@'localhost'"], ["DROP USER ''@'localhost'"]),
    "a test database": (
        [
            "INSERT INTO mysql.db (Host, Db, User, Select_priv, Insert_priv) VALUES ('%', 'test', '', 'Y', 'Y')",
            "FLUSH PRIVILEGES",
        ],
        ["DELETE FROM mysql.db WHERE User = ''", "FLUSH PRIVILEGES"],
    ),
    "a database for everybody": (["GRANT SELECT ON `t\\_%`.* TO PUBLIC"], ["REVOKE SELECT ON `t\\_%`.* FROM PUBLIC"]),
    "everything for everybody": (["GRANT SELECT ON *.* TO PUBLIC"], ["REVOKE SELECT ON *.* FROM PUBLIC"]),
    "a table for everybody": (
        ["CREATE DATABASE shared", "CREATE TABLE shared.words (a INT)", "GRANT SELECT ON shared.words TO PUBLIC"],
        ["REVOKE SELECT ON shared.words FROM PUBLIC", "DROP DATABASE shared"],
    ),
}


@pytest.mark.parametrize(("spoil", "mend"), UNSAFE.values(), ids=UNSAFE)
def test_a_server_on_which_everybody_may_do_something_is_refused(installation, admin, spoil, mend):
    for sql in spoil:
        admin(sql)
    try:
        with pytest.raises(ProvisioningError, match="accounts|any account"):
            create_tenant(slug="initech")
    finally:
        for sql in (*mend, "DELETE FROM mysql.global_priv WHERE User = 'PUBLIC'", "FLUSH PRIVILEGES"):
            admin(sql)

    assert create_tenant(slug="initech").state == "active"


def current_user():
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        return cursor.fetchone()[0]


def test_each_piece_of_work_has_the_account_that_it_needs_and_no_stronger_one(acme, globex, monkeypatch):
    users = {account: f"{credential(acme, account).user}@%" for account in ACCOUNTS}

    with tenant_context("acme"):
        assert current_user() == users["runtime"]
    with fleet_context("acme"):
        assert current_user() == users["runtime"]
    with fleet_context("acme", "migration"):
        assert current_user() == users["migration"]
    [plain] = for_each_tenant(current_user, slugs=["acme"])
    [migrating] = for_each_tenant(current_user, slugs=["acme"], account="migration")
    assert (plain.value, migrating.value) == (users["runtime"], users["migration"])
    with control_plane(), server_plane(acme.server):
        assert current_user().startswith("bulkhead@")
    with provisioning_context_of(acme):
        assert current_user() == users["migration"]


@contextmanager
def provisioning_context_of(tenant):
    from django.db import transaction

    from tenants.models import RegistryRevision, Tenant

    def become(state):
        with control_plane(), transaction.atomic():
            RegistryRevision.publish([tenant], state=state)

    become(Tenant.State.PROVISIONING)
    try:
        with provisioning_context(tenant, "migration"):
            yield
    finally:
        become(Tenant.State.ACTIVE)


WHO_AM_I = (
    "from django.db import connection as c; k = c.cursor(); k.execute('SELECT CURRENT_USER()'); print(k.fetchone())"
)


@pytest.mark.parametrize(
    ("argv", "account"),
    [
        (["tenant_command", "acme", "shell", "-v", "0", "-c", WHO_AM_I], "runtime"),
        (["all_tenants", "shell", "-v", "0", "-c", WHO_AM_I], "runtime"),
        (["tenant_command", "acme", "migrate"], "migration"),
        (["migrate_tenants", "acme"], "migration"),
        (["create_tenant", "initech"], "migration"),
    ],
    ids=["shell", "all shells", "migrate", "migrate_tenants", "create_tenant"],
)
def test_commands_have_the_account_that_they_need(acme, globex, admin, argv, account):
    """By the server's own general log."""
    admin("SET GLOBAL log_output = 'TABLE'")
    admin("TRUNCATE TABLE mysql.general_log")
    admin("SET GLOBAL general_log = 1")
    try:
        manage(*argv)
    finally:
        admin("SET GLOBAL general_log = 0")
    connects = admin("SELECT argument FROM mysql.general_log WHERE command_type = 'Connect'")
    used = {str(argument).split("@")[0].removeprefix("b'") for (argument,) in connects} - {"control", "bulkhead"}

    with control_plane():
        tenant = find_tenant(argv[1] if argv[1] in ("acme", "initech") else "acme")
    assert credential(tenant, account).user in used
    other = "runtime" if account == "migration" else "migration"
    assert not [user for user in used if user.startswith(f"{other[0]}1_")]


def test_a_process_that_gave_up_the_fleet_key_has_the_runtime_account_alone(acme):
    give_up_fleet_key()

    with tenant_context("acme"):
        assert current_user().startswith("r1_")
    with pytest.raises(SecretError), fleet_context("acme", "migration"):
        pass
    with control_plane():
        server = DatabaseServer.objects.get()
        with pytest.raises(SecretError), server_plane(server):
            pass


def test_databases_compare_text_alike_and_strictly(acme, admin):
    [(charset, collation)] = admin(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        f"WHERE schema_name = '{acme.alias}'"
    )
    assert (charset, collation) == ("utf8mb4", "utf8mb4_unicode_ci")
    with tenant_context("acme"), connection.cursor() as cursor:
        cursor.execute("SELECT @@sql_mode, @@time_zone")
        mode, zone = cursor.fetchone()
        assert "STRICT_ALL_TABLES" in mode and zone == "+00:00"
