"""The life of tenants: each change by one process, once, and nothing half done is served or left behind."""

import io
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction

from scans.models import ScanProfile
from tenants import secrets, services
from tenants.accounts.models import User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import (
    InvalidSlugError,
    InvalidTransitionError,
    ProvisioningError,
    SecretError,
    TenantExistsError,
    TenantNotFoundError,
    TenantSuspendedError,
)
from tenants.locks import exclusive
from tenants.models import DatabaseServer, LifecycleEvent, RegistryRevision, Tenant, TenantCredential, TenantKey
from tenants.registry import registry
from tenants.secrets import fleet_name
from tenants.services import create_tenant, find_tenant, for_each_tenant, resume_tenant, suspend_tenant
from tests.scans.scanning import ROOT, environment, manage, start, wait_until


def on_disk(installation):
    """The databases and accounts that are there, by the names that tenants' have."""
    if installation.engine == "sqlite":
        return {path.name.split(".")[0] for path in (settings.BULKHEAD_HOME / "tenants").iterdir()}, set()
    databases = {name for name in installation._database_names() if name.startswith("t_")}
    accounts = {user for user, _ in installation._user_names() if user.startswith(("r1_", "m1_"))}
    return databases, accounts


def on_record():
    with control_plane():
        databases = {tenant.alias for tenant in Tenant.objects.all()}
        return databases, set(TenantCredential.objects.values_list("user", flat=True))


def state_in_list(slug):
    out = io.StringIO()
    call_command("list_tenants", "--json", stdout=out)
    return next((row["state"] for row in json.loads(out.getvalue()) if row["slug"] == slug), None)


def test_of_two_creations_at_once_one_wins_and_nothing_is_orphaned(acme, installation):
    processes = [start("create_tenant", "initech") for _ in range(2)]
    output = [process.communicate(timeout=60)[0] for process in processes]

    assert sorted(process.returncode for process in processes) == [0, 1], output
    [loser] = [text for text, process in zip(output, processes, strict=True) if process.returncode]
    assert "exists already" in loser or "being changed by another process" in loser
    assert on_disk(installation) == on_record()
    with tenant_context("initech"):
        assert User.objects.count() == 0


def test_creations_of_different_slugs_at_once_all_succeed(acme, installation):
    processes = [start("create_tenant", slug) for slug in ("initech", "hooli")]
    output = [process.communicate(timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], output
    assert on_disk(installation) == on_record()


def test_a_slug_that_is_being_changed_is_refused_at_once_and_another_is_not(acme):
    """Long names, which a lock's name of 64 characters could not hold apart."""
    one, other = "a" * 31 + "b", "a" * 31 + "c"
    with held_by_another(one):
        with pytest.raises(TenantExistsError, match="another process"):
            create_tenant(slug=one)
        assert create_tenant(slug=other).state == "active"


@contextmanager
def held_by_another(slug):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with control_plane(), exclusive(slug):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(30)
        yield
    finally:
        leave.set()
        thread.join()


KILLS = [
    ("registered", "before", None),
    ("registered", "after", "provisioning"),
    ("database made", "after", "provisioning"),
    ("migrated", "after", "provisioning"),
    ("active", "before", "provisioning"),
]


@pytest.mark.parametrize(("step", "when", "state"), KILLS)
def test_a_creation_killed_at_any_step_serves_nobody_and_is_completed_by_the_same_command(
    acme, installation, step, when, state
):
    done = subprocess.run(
        [sys.executable, "-m", "tests.tenants.killing_creation", "initech", step, when],
        cwd=ROOT,
        env=environment(),
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state_in_list("initech") == state
    with pytest.raises(TenantNotFoundError), tenant_context("initech"):
        pass
    assert services.served_slugs() == ["acme", "globex"]

    with control_plane():  # as manage.py does
        call_command("create_tenant", "initech", stdout=io.StringIO())

    with tenant_context("initech"):
        User.objects.create_user("first", "correct horse battery staple")
    assert on_disk(installation) == on_record()


def test_a_creation_that_fails_says_why_and_succeeds_once_that_is_mended(acme, installation, monkeypatch):
    def fail():
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(ProvisioningError, match="No space left"):
        patch.setattr(services, "migrate_bound_database", fail)
        create_tenant(slug="initech")
    with control_plane():
        assert list(LifecycleEvent.objects.filter(tenant__slug="initech").values_list("step", flat=True)) == [
            "registered",
            "database made",
            "failed",
        ]

    assert create_tenant(slug="initech").state == "active"
    assert on_disk(installation) == on_record()


def broken_sql():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE")


def another_tenant():
    with tenant_context("acme"):
        pass


@pytest.mark.parametrize("work", [broken_sql, another_tenant])
def test_a_creation_that_the_database_or_a_guard_stops_is_journaled_as_failed(acme, monkeypatch, work):
    monkeypatch.setattr(services, "migrate_bound_database", work)
    with pytest.raises(ProvisioningError, match="Run the command again"):
        create_tenant(slug="initech")
    assert journal()[-1] == ("initech", "create", "failed")


@pytest.mark.parametrize("slug", [None, 7, b"initech", ["initech"]])
def test_what_is_no_text_is_no_slug(acme, slug):
    with pytest.raises(InvalidSlugError):
        create_tenant(slug=slug)


def test_a_form_refuses_what_is_no_slug():
    field = Tenant._meta.get_field("slug")
    assert field.clean("initech", None) == "initech"
    for slug in ("Initech", "in--itech", "operator"):
        with pytest.raises(ValidationError):
            field.clean(slug, None)


def test_the_first_tenant_of_an_installation_without_servers_is_made_on_this_machine(acme, globex):
    with control_plane(), transaction.atomic():
        for model in (LifecycleEvent, TenantCredential, TenantKey, Tenant, DatabaseServer):
            model.objects.all().delete()
        server = services._choose_server(None)
        assert (server.name, server.engine) == ("local", "sqlite")
        transaction.set_rollback(True)


def test_a_tenant_that_is_being_changed_on_another_machine_is_refused_here(acme, installation):
    """Machines share the control database's server, and nothing else; on SQLite there is one machine."""
    with held_by_another("initech"):
        if installation.engine == "mysql":
            (settings.BULKHEAD_HOME / "locks" / "initech").unlink(missing_ok=True)
        with pytest.raises(TenantExistsError, match="another process"):
            create_tenant(slug="initech")


MOVES = {
    (Tenant.State.PROVISIONING, suspend_tenant),
    (Tenant.State.PROVISIONING, resume_tenant),
    (Tenant.State.ACTIVE, resume_tenant),
    (Tenant.State.SUSPENDED, suspend_tenant),
    (Tenant.State.MAINTENANCE, suspend_tenant),
    (Tenant.State.DELETING, resume_tenant),
    (Tenant.State.DELETED, resume_tenant),
}


@pytest.mark.parametrize(("state", "move"), sorted(MOVES, key=str), ids=lambda value: getattr(value, "__name__", value))
def test_a_state_that_does_not_lead_there_is_left_as_it_is(acme, state, move):
    with control_plane(), transaction.atomic():
        RegistryRevision.publish([acme], state=state)
    before = journal()

    with pytest.raises(InvalidTransitionError, match=f"is {state}"):
        move(slug="acme")

    with control_plane():
        assert find_tenant("acme").state == state
    assert journal() == before


def journal():
    with control_plane():
        return list(LifecycleEvent.objects.values_list("tenant__slug", "action", "step"))


def test_of_many_that_suspend_at_once_one_does_it(acme):
    errors, barrier = [], threading.Barrier(4)

    def suspend():
        from tenants.connections import close_tenant_connections

        barrier.wait()
        try:
            suspend_tenant(slug="acme")
        except InvalidTransitionError as error:
            errors.append(error)
        finally:
            close_tenant_connections()

    threads = [threading.Thread(target=suspend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == 3 and journal().count(("acme", "suspend", "suspended")) == 1


def test_the_name_of_a_tenants_lock_is_told_by_the_fleet_key_alone(acme, monkeypatch):
    """Any account of a server may take any lock there: one that web code could name would hold operators up."""
    names = {fleet_name(f"lock of control:{slug}") for slug in ("acme", "globex")}
    monkeypatch.setitem(secrets._keys, "fleet", bytes(32))
    names.add(fleet_name("lock of control:acme"))
    assert len(names) == 3

    secrets.give_up_fleet_key()
    with pytest.raises(SecretError):
        fleet_name("lock of control:acme")


def is_served(slug):
    try:
        with tenant_context(slug):
            return True
    except (TenantSuspendedError, TenantNotFoundError):
        return False


def test_what_another_process_changes_takes_effect_here_within_two_seconds(acme):
    changes = [
        (["suspend_tenant", "acme"], "acme", False),
        (["resume_tenant", "acme"], "acme", True),
        (["create_tenant", "initech"], "initech", True),
    ]
    for argv, slug, served in changes:
        assert is_served(slug) is not served
        manage(*argv)
        changed_at = time.monotonic()

        wait_until(lambda slug=slug, served=served: is_served(slug) is served, 5)

        assert time.monotonic() - changed_at < 2


@pytest.mark.parametrize("parallel", [1, 2])
def test_each_tenant_once_with_its_own_data_and_one_failure_stopping_nobody(acme, globex, parallel):
    create_tenant(slug="initech")
    for slug in ("acme", "globex", "initech"):
        with tenant_context(slug):
            ScanProfile.objects.create(name=f"of {slug}", engines={"ports": {}})
    suspend_tenant(slug="initech")

    def names():
        found = list(ScanProfile.objects.filter(name__startswith="of ").values_list("name", flat=True))
        if found == ["of globex"]:
            raise ValueError("broken")
        return found

    outcomes = {outcome.slug: outcome for outcome in for_each_tenant(names, parallel=parallel)}

    assert (outcomes["acme"].value, outcomes["initech"].value) == (["of acme"], ["of initech"])
    assert outcomes["globex"].value is None and str(outcomes["globex"].error) == "broken"
    assert {outcome.seconds >= 0 for outcome in outcomes.values()} == {True}


def test_in_parallel_the_first_that_is_done_comes_first(acme, globex):
    from tenants.context import current_tenant

    globex_is_done = threading.Event()

    def work():
        if current_tenant().slug == "acme":
            return globex_is_done.wait(10)
        return True

    outcomes = for_each_tenant(work, parallel=2)
    first = next(outcomes)
    globex_is_done.set()

    assert [first.slug, next(outcomes).slug] == ["globex", "acme"]


def secrets_of(slug):
    with control_plane():
        tenant = find_tenant(slug)
        passwords = [str(credential.unseal_password()) for credential in tenant.credentials.all()]
        return [*passwords, *(str(key) for key in registry.get(slug).signing_keys.values())]


def dump_of_control():
    with control_plane(), connection.cursor() as cursor:
        rows = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows += cursor.fetchall()
        return repr(rows)


def test_no_secret_stands_in_the_control_database(acme, globex, installation):
    canaries = [*secrets_of("acme"), *secrets_of("globex")]
    if installation.engine == "mysql":
        canaries.append(installation.server.password)
    assert len(canaries) == (7 if installation.engine == "mysql" else 2)

    dump = dump_of_control()
    if installation.engine == "sqlite":
        dump += repr([path.read_bytes() for path in settings.BULKHEAD_HOME.glob("control.sqlite3*")])

    assert acme.slug in dump  # it is a dump
    assert [canary for canary in canaries if canary in dump or canary.encode().hex() in dump] == []


def test_a_failure_tells_no_password(installation, monkeypatch):
    with control_plane():
        server = DatabaseServer.objects.get()
    if server.engine == "sqlite":
        monkeypatch.setattr("tenants.provisioning.sqlite.create_database", _refuse)
    else:
        monkeypatch.setattr("tenants.provisioning.mysql.create_account", _refuse)

    with pytest.raises(ProvisioningError) as caught:
        create_tenant(slug="initech")

    texts = str(caught.value) + repr(journal()) + dump_of_control()
    assert [secret for secret in secrets_of("initech") if secret in texts] == []


def _refuse(*args):
    raise OSError("refused")
