"""Each new physical connection proves that the database behind it is the bound tenant's, or is destroyed."""

import shutil
import sqlite3
from contextlib import closing

import django_rq
import pytest
from django.db import DatabaseError, OperationalError, connection
from django.db.backends.signals import connection_created

from scans.dispatch import run_round
from scans.models import ScanProfile
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.exceptions import TenantUnavailableError
from tenants.models import LifecycleEvent
from tenants.provisioning.sqlite import path_of
from tenants.services import find_tenant, resume_tenant
from tests.conftest import api_client
from tests.invariants.work import names
from tests.scans.test_dispatch import ask, tasks
from tests.tenants.states import set_state


def administer(installation, alias, *statements):
    """As whoever runs the databases can, behind the product's back."""
    close_tenant_connections()
    if installation.engine == "mysql":
        for statement in (f"USE {alias}", *statements):
            installation._sql(statement)
        return
    with closing(sqlite3.connect(path_of(alias))) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def put_in_place(installation, source, target):
    """One tenant's copy over another's: the file on SQLite; the rows, and the view as a dump has it, on MariaDB."""
    close_tenant_connections()
    if installation.engine == "sqlite":
        shutil.copy(path_of(source), path_of(target))
        return
    view = installation._sql(f"SHOW CREATE VIEW {source}.tenant_identity")[0][1]
    administer(
        installation,
        target,
        "DELETE FROM scans_scanprofile",
        f"INSERT INTO scans_scanprofile SELECT * FROM {source}.scans_scanprofile",
        "DROP VIEW tenant_identity",
        view.replace(f"`{source}`.", ""),
    )


def identify_as(rows):
    return ["DROP VIEW IF EXISTS tenant_identity", *([f"CREATE VIEW tenant_identity AS {rows}"] if rows else [])]


def mend(installation, alias):
    administer(installation, alias, *identify_as(f"SELECT '{alias}' AS identity"))


def is_served(slug):
    """A new connection reads what it should."""
    close_tenant_connections()
    return names(slug) == set()


def state_of(slug):
    with control_plane():
        return find_tenant(slug).state


WRONG = {
    "another's": "SELECT 't_0_g1' AS identity",
    "missing": None,
    "empty": "SELECT 'x' AS identity FROM scans_scanprofile WHERE 1 = 0",
    "null": "SELECT NULL AS identity",
    "of another form": "SELECT 1 AS something",
    "two": "SELECT '{alias}' AS identity UNION ALL SELECT 't_0_g1'",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_database_that_does_not_prove_to_be_the_tenants_is_refused_until_it_does(acme, globex, installation, wrong):
    rows = WRONG[wrong]
    administer(installation, acme.alias, *identify_as(rows and rows.format(alias=acme.alias)))

    with tenant_context("acme"):
        for _ in range(2):  # the second finds no handle that the first has left
            with pytest.raises(TenantUnavailableError, match=acme.alias):
                ScanProfile.objects.count()
            assert connection.connection is None

    assert state_of("acme") == "maintenance"
    with pytest.raises(TenantUnavailableError), tenant_context("acme"):
        pass
    with pytest.raises(TenantUnavailableError, match="is not"):
        resume_tenant(slug="acme")
    assert is_served("globex")
    mend(installation, acme.alias)
    assert resume_tenant(slug="acme").state == "active"
    assert is_served("acme")
    with control_plane():
        events = LifecycleEvent.objects.filter(tenant=acme, action__in=["identity", "resume"])
        assert list(events.values_list("action", "step")) == [("identity", "maintenance"), ("resume", "active")]


def test_another_tenants_copy_restored_in_its_place_is_not_served(acme, globex, installation):
    put_in_place(installation, globex.alias, acme.alias)

    with tenant_context("acme"), pytest.raises(TenantUnavailableError, match=f"{acme.alias}.*{globex.alias}"):
        list(ScanProfile.objects.all())

    assert (state_of("acme"), state_of("globex")) == ("maintenance", "active")


def test_members_hear_that_it_is_unavailable_and_nothing_of_the_others(acme, globex, alice_api, mallory, installation):
    administer(installation, acme.alias, *identify_as(f"SELECT '{globex.alias}' AS identity"))

    answers = [alice_api.get("/api/v1/scans/") for _ in range(2)]

    assert [(answer.status_code, answer["Retry-After"]) for answer in answers] == [(503, answers[0]["Retry-After"])] * 2
    assert globex.alias not in answers[0].content.decode()
    assert state_of("acme") == "maintenance"
    assert api_client("globex", mallory).get("/api/v1/scans/").status_code == 200


def test_the_dispatcher_goes_on_with_the_others(acme, globex, alice, mallory, installation):
    ask("acme", alice)
    ask("globex", mallory)
    administer(installation, acme.alias, *identify_as(None))

    run_round([acme.id, globex.id])

    assert django_rq.get_queue("default").job_ids == list(tasks("globex"))
    assert (state_of("acme"), state_of("globex")) == ("maintenance", "active")


def test_the_runtime_account_cannot_change_the_identity(acme, globex):
    statements = [
        f"UPDATE tenant_identity SET identity = '{globex.alias}'",
        f"INSERT INTO tenant_identity VALUES ('{globex.alias}')",
        "DELETE FROM tenant_identity",
        "DROP VIEW tenant_identity",
        f"CREATE OR REPLACE VIEW tenant_identity AS SELECT '{globex.alias}' AS identity",
        f"CREATE TEMPORARY VIEW tenant_identity AS SELECT '{globex.alias}' AS identity",
        f"ALTER VIEW tenant_identity AS SELECT '{globex.alias}' AS identity",
        "ALTER TABLE tenant_identity RENAME TO other",
        "CREATE TRIGGER t BEFORE INSERT ON scans_scanprofile FOR EACH ROW BEGIN SELECT 1; END",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = ''",
    ]
    with tenant_context("acme"):
        for statement in statements:
            with pytest.raises(DatabaseError), connection.cursor() as cursor:
                cursor.execute(statement)
                pytest.fail(statement)
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT identity FROM tenant_identity")
            assert cursor.fetchall() in ([(acme.alias,)], ((acme.alias,),))


def test_the_migration_account_proves_it_too_and_may_change_tables(acme, installation):
    with fleet_context("acme", "migration"), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE extra (id INTEGER)")
        cursor.execute("DROP TABLE extra")
    administer(installation, acme.alias, *identify_as(None))

    with fleet_context("acme", "migration"), pytest.raises(TenantUnavailableError):
        connection.cursor()


def overwrite(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))


def test_a_database_that_does_not_answer_is_not_taken_for_another(acme, installation):
    """It is down, not swapped: nobody puts the tenant into maintenance for that."""
    if installation.engine == "mysql":
        user = installation._sql(f"SELECT User FROM mysql.db WHERE Db LIKE '%{acme.id.hex}%' AND User LIKE 'r1%'")[0][0]
        grants = rf"ON `{acme.alias}`.* {{}} `{user}`@`%`".replace("_", r"\_").replace(user.replace("_", r"\_"), user)
        close_tenant_connections()
        installation._sql("REVOKE SELECT " + grants.format("FROM"))
    else:
        close_tenant_connections()
        overwrite(path_of(acme.alias))

    with tenant_context("acme"):
        for _ in range(2):
            with pytest.raises(DatabaseError):
                ScanProfile.objects.count()
            assert connection.connection is None

    assert state_of("acme") == "active"
    if installation.engine == "mysql":
        installation._sql("GRANT SELECT " + grants.format("TO"))


def test_a_tenant_whose_database_does_not_answer_stays_in_maintenance(acme, installation):
    set_state("acme", "maintenance")
    close_tenant_connections()
    users = []
    if installation.engine == "mysql":
        users = installation._sql(f"SELECT DISTINCT User FROM mysql.db WHERE Db LIKE '%{acme.id.hex}%'")
    else:
        overwrite(path_of(acme.alias))
    for (user,) in users:
        installation._sql(f"ALTER USER `{user}`@`%` ACCOUNT LOCK")

    with pytest.raises(TenantUnavailableError, match="cannot be opened"):
        resume_tenant(slug="acme")

    for (user,) in users:
        installation._sql(f"ALTER USER `{user}`@`%` ACCOUNT UNLOCK")
    assert state_of("acme") == "maintenance"


def test_a_connection_whose_set_up_fails_is_not_used_for_the_next_query(acme):
    def fail(**kwargs):
        raise OperationalError("set-up failed")

    with tenant_context("acme"):
        connection.close()
        connection_created.connect(fail)
        try:
            with pytest.raises(OperationalError, match="set-up failed"):
                ScanProfile.objects.count()
            assert connection.connection is None
        finally:
            connection_created.disconnect(fail)
    assert is_served("acme")
