"""A database that is not migrated yet, or takes no writes: its members are told so, and nobody else notices."""

import json
from contextlib import contextmanager

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection
from django.db.migrations.recorder import MigrationRecorder

from scans import jobs
from scans.dispatch import run_round
from scans.models import Scan, ScanProfile, Target, TaskQueue
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.exceptions import DatabaseBehindError
from tenants.services import create_tenant, find_tenant
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.invariants.work import add
from tests.scans.rows import make_scan, make_target
from tests.scans.test_dispatch import ask
from tests.tenants.test_api_keys import made, using
from tests.tenants.test_identity import administer

SCANS, TARGETS = "/api/v1/scans/", "/api/v1/targets/"
TARGET = {"name": "shop", "host": "shop.example", "ports": [80]}


@pytest.fixture
def ada(installation):
    """The owner of a tenant of their own, whose tables may be changed: it goes with the test."""
    create_tenant(slug="initech")
    with tenant_context("initech"):
        return get_user_model().objects.create_user("ada", PASSWORD, role="owner")


def go_back_to(migration):
    """As it was before the code that runs now."""
    with fleet_context("initech", "migration"):
        call_command("migrate", "scans", migration, verbosity=0)


LACKS = {"a column": ("0004_scan_moves", {}), "a table": ("0003_versions", {"Idempotency-Key": "one"})}


@pytest.mark.parametrize("what", LACKS)
def test_members_of_a_tenant_that_is_not_migrated_are_told_so_and_others_are_served(
    ada, alice_api, caplog, capsys, what
):
    migration, headers = LACKS[what]
    ask("initech", ada)
    with tenant_context("initech"):
        body = {"target": str(Target.objects.get().pk), "profile": str(ScanProfile.objects.get(name="ports").pk)}
    api = api_client("initech", ada)
    go_back_to(migration)

    answer = api.post(SCANS, body, format="json", headers=headers)

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "database_behind", "5")
    assert "0005_turns" in caplog.text and "0005_turns" not in answer.content.decode()
    assert alice_api.get(SCANS).status_code == 200
    call_command("list_tenants", "--json", "--check")
    found = {row["slug"]: row["database"] for row in json.loads(capsys.readouterr().out)}
    assert "scans.0005_turns" in found.pop("initech") and set(found.values()) == {"ok"}
    call_command("migrate_tenants", "initech")
    assert api.post(SCANS, body, format="json", headers=headers).status_code == 202


def test_the_dispatcher_passes_over_a_tenant_that_is_not_migrated_and_comes_back(ada, alice, caplog):
    ask("initech", ada)
    ask("acme", alice)
    go_back_to("0004_scan_moves")
    sent = []

    assert run_round(["initech", "acme"], sent.append) == ["acme"]
    assert "Tenant initech is passed over" in caplog.text and len(sent) == 1
    call_command("migrate_tenants", "initech")
    assert run_round(["initech"], sent.append) == ["initech"] and len(sent) == 2


def test_a_scan_that_meets_what_is_not_migrated_waits_for_it(ada, installation):
    ask("initech", ada)
    with tenant_context("initech"):
        task = TaskQueue.objects.get()
    with control_plane():
        alias = find_tenant("initech").alias
    administer(
        installation,
        alias,
        "ALTER TABLE scans_scanrun RENAME TO away",
        "DELETE FROM django_migrations WHERE app = 'scans' AND name >= '0005'",
    )

    with tenant_context("initech"):
        jobs.run_scan(str(task.message_id))
        assert Scan.objects.values_list("state", "reason").get() == ("blocked", "database_behind")
        task.refresh_from_db()
    assert (task.lease_until, task.attempts, task.handled_at) == (None, 0, None)


def test_that_a_database_is_behind_withdraws_no_running_scans_permission(acme, alice, monkeypatch):
    def look(*of_the_scan):
        raise DatabaseBehindError("It is behind.")

    monkeypatch.setattr(jobs, "require_permission_to_scan", look)
    with tenant_context("acme"):
        permission = jobs.Permission(make_scan(make_target(alice), alice))
        permission._looked_at -= jobs.PERMISSION_SECONDS
        with pytest.raises(DatabaseBehindError):
            permission.is_gone()
        assert permission.reason == permission.wish == ""


@pytest.mark.parametrize("sql", ["SELECT * FROM nowhere", "SELECT nothing FROM scans_scan"])
def test_a_fault_of_ours_is_not_hidden_behind_a_database_that_is_up_to_date(acme, sql):
    with tenant_context("acme"), connection.cursor() as cursor, pytest.raises(DatabaseError):
        cursor.execute(sql)


def test_of_a_database_that_is_behind_other_errors_are_what_they_are(ada):
    go_back_to("0004_scan_moves")
    with tenant_context("initech"):
        add("row")
        with pytest.raises(IntegrityError):
            add("row")


def test_control_is_no_tenant_that_is_behind(installation):
    with control_plane(), connection.cursor() as cursor:
        MigrationRecorder(connection).migration_qs.filter(app="tenants", name__gte="0006").delete()
        with pytest.raises(DatabaseError):
            cursor.execute("SELECT * FROM nowhere")


@pytest.fixture
def read_only(installation, acme):
    """A server after a fail-over; a file whose disk was mounted anew."""

    @contextmanager
    def in_force():
        close_tenant_connections()
        if installation.engine == "mysql":
            installation._sql("SET GLOBAL read_only = 1")
        else:
            with tenant_context("acme"):
                connection.ensure_connection()
                connection.connection.set_authorizer(None)
                connection.connection.execute("PRAGMA query_only = 1")
        try:
            yield
        finally:
            if installation.engine == "mysql":
                installation._sql("SET GLOBAL read_only = 0")
            close_tenant_connections()

    return in_force


def test_while_nothing_can_be_written_reads_go_on_and_writes_are_told_so(alice_api, read_only):
    key = made(alice_api)["key"]  # whose first use would be noted
    with read_only():
        reads = [api.get(path).status_code for api in (alice_api, using(key)) for path in (SCANS, TARGETS)]
        write = alice_api.post(TARGETS, TARGET, format="json")

    assert reads == [200] * 4
    assert (write.status_code, write.json()["code"], write["Retry-After"]) == (503, "read_only", "5")
    assert alice_api.post(TARGETS, TARGET, format="json").status_code == 201


def test_while_nothing_can_be_written_a_tenants_scans_wait(alice, read_only, caplog):
    ask("acme", alice)
    sent = []
    with read_only():
        assert run_round(["acme"], sent.append) == [] == sent
    assert "Tenant acme is passed over" in caplog.text
    assert run_round(["acme"], sent.append) == ["acme"] and len(sent) == 1
