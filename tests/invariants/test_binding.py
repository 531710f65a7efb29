"""The four sentences of the invariant."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from scans.models import ScanProfile
from tenants.accounts.models import User
from tenants.context import after_unbind, control_plane, current_tenant, fleet_context, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.models import Tenant
from tests.invariants.work import add, names

USES = {
    "a query": lambda: ScanProfile.objects.count(),
    "a query of both planes": lambda: User.objects.count(),
    "a query of control": lambda: Tenant.objects.count(),
    "a lazy query": lambda: list(ScanProfile.objects.all()),
    "an instance": lambda: ScanProfile(name="row").save(),
    "raw": lambda: list(ScanProfile.objects.raw("SELECT * FROM scans_scanprofile")),
    "using default": lambda: ScanProfile.objects.using(DEFAULT_DB_ALIAS).count(),
    "save using default": lambda: ScanProfile(name="row").save(using=DEFAULT_DB_ALIAS),
    "a manager of default": lambda: User.objects.db_manager(DEFAULT_DB_ALIAS).create_user("eve"),
    "the cache of content types": lambda: ContentType.objects.get_for_model(User),
    "select_for_update": lambda: ScanProfile.objects.select_for_update().first(),
    "a cursor": lambda: connection.cursor(),
    "a chunked cursor": lambda: connection.chunked_cursor(),
    "atomic": lambda: transaction.atomic().__enter__(),
    "on_commit": lambda: transaction.on_commit(print),
    "savepoint": lambda: transaction.get_connection().savepoint(),
    "savepoint_commit": lambda: transaction.savepoint_commit("s"),
    "savepoint_rollback": lambda: transaction.savepoint_rollback("s"),
    "clean_savepoints": lambda: transaction.clean_savepoints(),
    "get_autocommit": lambda: transaction.get_autocommit(),
    "set_autocommit": lambda: transaction.set_autocommit(False),
    "get_rollback": lambda: transaction.get_rollback(),
    "set_rollback": lambda: transaction.set_rollback(True),
    "commit": lambda: transaction.commit(),
    "rollback": lambda: transaction.rollback(),
    "in_atomic_block": lambda: connection.in_atomic_block,
    "hasattr": lambda: hasattr(connection, "in_atomic_block"),
    "connect": lambda: connection.connect(),
    "ensure_connection": lambda: connection.ensure_connection(),
    "a new handle": lambda: connection.get_new_connection({}),
    "a temporary connection": lambda: connection.temporary_connection().__enter__(),
    "schema editor": lambda: connection.schema_editor(),
    "introspection": lambda: connection.introspection.table_names(),
    "the control alias": lambda: connections["control"],
    "createsuperuser": lambda: call_command("createsuperuser", interactive=False, username="eve", verbosity=0),
    "dumpdata": lambda: call_command("dumpdata", "accounts", verbosity=0),
    "flush": lambda: call_command("flush", interactive=False, verbosity=0),
    "migrate": lambda: call_command("migrate", verbosity=0),
    "after_unbind": lambda: after_unbind(print),
    "the current tenant": lambda: current_tenant(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_unbound_work_cannot_touch_a_database_at_all(installation, use):
    with pytest.raises((NoTenantError, CommandError), match="is bound"):
        use()


def test_unbound_work_cannot_name_a_tenant_either(acme, globex):
    with pytest.raises(NoTenantError):
        connections[acme.alias]
    with pytest.raises(NoTenantError):
        ScanProfile.objects.using(acme.alias).count()


def test_unbound_default_says_what_sql_looks_like(installation):
    with control_plane():
        Tenant.objects.count()  # a server's version is known once the process has spoken to it

    query = str(ScanProfile.objects.filter(name="x", engines__ports=1).query)

    assert "scans_scanprofile" in query
    assert connection.vendor == installation.engine.replace("maria", "")
    assert DEFAULT_DB_ALIAS in connections
    assert list(connections) == [DEFAULT_DB_ALIAS]


def test_the_unbound_connection_is_no_use_inside_a_binding(acme):
    kept = connections[DEFAULT_DB_ALIAS]

    with tenant_context("acme"):
        for use in (kept.cursor, kept.connect, kept.commit, kept.savepoint, lambda: kept.in_atomic_block):
            with pytest.raises(WrongTenantError, match="where nothing was bound"):
                use()
        with pytest.raises(WrongTenantError):
            kept.get_new_connection({})


def test_bound_work_reaches_its_own_database_only(acme, globex):
    with tenant_context("acme"):
        add("row of acme")

    assert names("acme") == {"row of acme"}
    assert names("globex") == set()


NAMED_USES = {
    "connections": lambda alias: connections[alias],
    "using": lambda alias: ScanProfile.objects.using(alias).count(),
    "save": lambda alias: ScanProfile(name="row").save(using=alias),
    "atomic": lambda alias: transaction.atomic(using=alias).__enter__(),
    "a manager": lambda alias: User.objects.db_manager(alias).create_user("eve"),
    "a manager's cache": lambda alias: ContentType.objects.db_manager(alias).get_for_model(User),
    "a command": lambda alias: call_command("migrate", database=alias, verbosity=0, skip_checks=True),
}


@pytest.mark.parametrize("use", NAMED_USES.values(), ids=NAMED_USES.keys())
def test_bound_work_can_name_no_database_but_its_own(acme, globex, use):
    with tenant_context("globex"):
        ContentType.objects.get_for_model(User)  # is cached from here on
    with tenant_context("acme"):
        for alias in (globex.alias, "control", "x", f"{acme.alias}0"):
            with pytest.raises(WrongTenantError):
                use(alias)
            assert alias not in connections
        assert ScanProfile.objects.using(acme.alias).count() == ScanProfile.objects.using(DEFAULT_DB_ALIAS).count()
        assert list(connections) == [DEFAULT_DB_ALIAS, acme.alias]


def test_nothing_can_be_put_in_place_of_a_connection(acme):
    with tenant_context("acme"):
        with pytest.raises(WrongTenantError):
            connections[DEFAULT_DB_ALIAS] = connection
        with pytest.raises(WrongTenantError):
            del connections[DEFAULT_DB_ALIAS]


def test_control_work_reaches_no_tenant(acme):
    with control_plane():
        assert Tenant.objects.filter(slug="acme").exists()
        with pytest.raises(WrongTenantError, match="does not live in the control plane"):
            ScanProfile.objects.count()
        with pytest.raises(WrongTenantError):
            connections[acme.alias]
        with pytest.raises(NoTenantError):
            current_tenant()


def test_a_thread_starts_unbound(acme):
    caught = []

    def work():
        with pytest.raises(NoTenantError) as refusal:
            ScanProfile.objects.count()
        caught.append(refusal.value)

    with tenant_context("acme"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()

    assert len(caught) == 2


def test_the_runtime_account_is_not_the_migration_account(acme):
    with fleet_context("acme", "migration"):
        of_migration = connections[DEFAULT_DB_ALIAS]
        ScanProfile.objects.count()
    with tenant_context("acme"):
        with pytest.raises(WrongTenantError, match="migration account"):
            of_migration.cursor()
        with pytest.raises(WrongTenantError), fleet_context("acme", "migration"):
            pass


def test_a_snapshot_cannot_be_changed(acme):
    with tenant_context("acme") as tenant:
        for change in (
            lambda: setattr(tenant, "slug", "globex"),
            lambda: tenant.limits.update(scans=99),
            lambda: tenant.limits.__setitem__("scans", 99),
        ):
            with pytest.raises((AttributeError, TypeError)):
                change()
        assert {tenant: str(tenant)} == {current_tenant(): "acme"}
