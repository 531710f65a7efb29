"""``default`` as the bound plane's connection, and what becomes of connections that are kept."""

import contextvars
import os
import threading
import time

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, close_old_connections, connection, connections, transaction

from scans.models import ScanProfile
from tenants.connections import close_tenant_connections, complete
from tenants.context import control_plane, fleet_context, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.planes import require_bound
from tenants.services import create_tenant
from tests.invariants.work import add, names

KEPT_USES = {
    "cursor": lambda kept: kept.cursor(),
    "chunked_cursor": lambda kept: kept.chunked_cursor(),
    "temporary_connection": lambda kept: kept.temporary_connection().__enter__(),
    "commit": lambda kept: kept.commit(),
    "set_autocommit": lambda kept: kept.set_autocommit(False),
    "savepoint": lambda kept: kept._savepoint("s"),
    "introspection": lambda kept: kept.introspection.table_names(),
    "schema_editor": lambda kept: kept.schema_editor().execute("SELECT 1"),
    "check_constraints": lambda kept: kept.check_constraints(),
    "a new handle": lambda kept: kept.get_new_connection(kept.get_connection_params()),
    "connect": lambda kept: kept.connect(),
}


@pytest.mark.parametrize("use", KEPT_USES.values(), ids=KEPT_USES.keys())
def test_a_connection_kept_from_one_binding_is_no_use_elsewhere(acme, globex, use):
    with tenant_context("acme"):
        ScanProfile.objects.count()
        kept = connections[DEFAULT_DB_ALIAS]
    with pytest.raises(NoTenantError, match=acme.alias):
        use(kept)
    with tenant_context("globex"), pytest.raises(WrongTenantError, match=acme.alias):
        use(kept)
    with control_plane(), pytest.raises(WrongTenantError, match=acme.alias):
        use(kept)


def leaked_transaction():
    """A generator that holds acme's binding with a transaction open, and that connection."""

    def begin():
        with tenant_context("acme"):
            transaction.atomic().__enter__()
            add("row")
            yield connections[DEFAULT_DB_ALIAS]

    generator = begin()
    kept = contextvars.copy_context().run(next, generator)
    kept.in_atomic_block = False
    return generator, kept


def test_a_commit_on_a_kept_connection_is_rolled_back_with_it(acme, globex):
    """A generator's binding that leaked: its transaction is open while another tenant is bound."""
    generator, kept = leaked_transaction()
    with tenant_context("globex"):
        with pytest.raises(WrongTenantError):
            kept.commit()
        assert kept.retired
    with pytest.raises(WrongTenantError):
        generator.close()
    assert names("acme") == set()


def test_a_connection_cannot_be_copied(acme):
    """Nobody would close the copy, nor roll back what is open on it, when the binding ends."""
    with fleet_context("acme", "migration"), pytest.raises(WrongTenantError, match="cannot be copied"):
        connection.copy()


def test_a_connection_that_was_let_go_of_does_not_reconnect(acme):
    with tenant_context("acme"):
        ScanProfile.objects.count()
        kept, cursor = connections[DEFAULT_DB_ALIAS], connection.cursor()
        close_tenant_connections()
        for use in (kept.cursor, kept.connect, lambda: cursor.execute("SELECT 1"), cursor.fetchone):
            with pytest.raises(WrongTenantError, match="kept after it had been closed"):
                use()
        assert kept.connection is None
        assert connections[DEFAULT_DB_ALIAS] is not kept
        assert ScanProfile.objects.exists() in (True, False)


def test_the_same_connection_serves_the_next_binding(acme, globex):
    with tenant_context("acme"):
        ScanProfile.objects.count()
        first = connections[DEFAULT_DB_ALIAS].connection
    with tenant_context("globex"):
        ScanProfile.objects.count()
    with tenant_context("acme"):
        ScanProfile.objects.count()
        assert connections[DEFAULT_DB_ALIAS].connection is first


def test_connections_with_the_stronger_account_are_not_kept(acme):
    with fleet_context("acme", "migration"):
        ScanProfile.objects.count()
        kept = connections[DEFAULT_DB_ALIAS]
    assert kept.retired
    assert kept.connection is None
    assert kept not in connections.all()


def test_a_thread_keeps_few_tenant_connections_and_none_in_a_transaction_is_closed(acme, globex, settings):
    settings.BULKHEAD_CONNECTIONS_PER_THREAD = 1
    create_tenant(slug="initech")
    opened = {}

    def use(slug):
        with tenant_context(slug):
            ScanProfile.objects.count()
            opened[slug] = connections[DEFAULT_DB_ALIAS]

    def alive():
        return [slug for slug, wrapper in opened.items() if wrapper.connection is not None]

    use("acme")
    use("globex")
    assert alive() == ["globex"]
    assert len([wrapper for wrapper in connections.all() if wrapper.alias != "control"]) == 1

    def hold():
        with tenant_context("acme"), transaction.atomic():
            add("row")
            opened["acme"] = connections[DEFAULT_DB_ALIAS]
            yield

    holding = hold()
    context = contextvars.copy_context()
    context.run(next, holding)
    use("globex")
    use("initech")
    assert alive() == ["acme", "initech"]
    context.run(next, holding, None)
    assert names("acme") == {"row"}


def test_connections_are_a_threads_own(acme):
    seen = []

    def work():
        with tenant_context("acme"):
            ScanProfile.objects.count()
            seen.append(connections[DEFAULT_DB_ALIAS])

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0] is not seen[1]
    assert seen[1] not in connections.all()


def test_a_threads_connections_end_with_it(acme):
    def work():
        with tenant_context("acme"):
            ScanProfile.objects.count()

    work()
    before, most = len(os.listdir("/proc/self/fd")), 0
    for _ in range(500):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert most <= 4


def test_django_closes_old_connections_of_every_plane_in_this_thread(acme):
    with tenant_context("acme"):
        ScanProfile.objects.count()
    kept = list(connections.all())
    assert {wrapper.alias for wrapper in kept} == {"control", acme.alias}
    for wrapper in kept:
        wrapper.close_at = time.monotonic() - 1
    close_old_connections()
    assert [wrapper.connection for wrapper in kept] == [None, None]
    with tenant_context("acme"):
        assert ScanProfile.objects.exists() in (True, False)
        connections.close_all()
        assert ScanProfile.objects.exists() in (True, False)


@pytest.mark.parametrize("idle_seconds, failures", [(0, 1), (2, 0)])
def test_a_connection_that_died_fails_once_at_most(acme, installation, idle_seconds, failures):
    """However soon the next binding comes: a worker's loop has no request signals."""
    with tenant_context("acme"):
        ScanProfile.objects.count()
        wrapper = connections[DEFAULT_DB_ALIAS]
    if installation.engine == "mysql":
        installation._sql(f"KILL {wrapper.connection.thread_id()}")
    else:
        failures = 0  # there is no server that could close it
    wrapper.unbound_at -= idle_seconds
    for _ in range(3):
        try:
            with tenant_context("acme"), transaction.atomic():  # a read outside one is sent again
                ScanProfile.objects.count()
        except OperationalError:
            failures -= 1
    assert failures == 0


def test_an_open_connection_follows_its_database_to_a_new_address(acme):
    with tenant_context("acme"):
        ScanProfile.objects.count()
        first = connections[DEFAULT_DB_ALIAS]
    first.source = complete({})  # what the registry read anew
    with tenant_context("acme"):
        ScanProfile.objects.count()
        assert connections[DEFAULT_DB_ALIAS] is not first
        assert connections[DEFAULT_DB_ALIAS].source is require_bound().database
    assert first.retired
