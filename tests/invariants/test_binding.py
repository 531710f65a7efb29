"""The four sentences of the invariant, and the rules of binding."""

import threading

import pytest
from django.db import connection, connections, transaction

from scans.models import ScanProfile
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.models import Tenant

UNBOUND_USES = {
    "a query": lambda: ScanProfile.objects.count(),
    "a cursor": lambda: connection.cursor(),
    "atomic": lambda: transaction.atomic().__enter__(),
    "on_commit": lambda: transaction.on_commit(print),
    "savepoint": lambda: transaction.savepoint(),
    "set_autocommit": lambda: transaction.set_autocommit(False),
    "commit": lambda: transaction.commit(),
    "rollback": lambda: transaction.rollback(),
    "in_atomic_block": lambda: connection.in_atomic_block,
    "ensure_connection": lambda: connection.ensure_connection(),
    "the control alias": lambda: connections["control"],
    "schema editor": lambda: connection.schema_editor(),
    "introspection": lambda: connection.introspection.table_names(),
}


@pytest.mark.parametrize("use", UNBOUND_USES.values(), ids=UNBOUND_USES.keys())
def test_unbound_work_cannot_touch_a_database_at_all(installation, use):
    with pytest.raises(NoTenantError):
        use()


def test_unbound_default_answers_questions_of_dialect(installation):
    assert "SELECT" in connection.ops.bulk_insert_sql([], []) or connection.vendor in ("sqlite", "mysql")


def test_bound_work_reaches_its_own_tenant_only(acme, globex):
    with tenant_context("acme"):
        ScanProfile.objects.create(name="mine", engines={"ports": {}})
    with tenant_context("globex"):
        names = list(ScanProfile.objects.values_list("name", flat=True))

    assert "mine" not in names


def test_a_thread_starts_unbound(acme):
    caught = []

    def work():
        try:
            ScanProfile.objects.count()
        except NoTenantError as error:
            caught.append(error)

    with tenant_context("acme"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert len(caught) == 1


def test_control_is_refused_inside_a_tenant(acme):
    with tenant_context("acme"), pytest.raises(WrongTenantError), control_plane():
        pass


def test_another_tenant_is_refused_inside_a_tenant(acme, globex):
    with tenant_context("acme"), pytest.raises(WrongTenantError), tenant_context("globex"):
        pass


def test_the_same_tenant_again_changes_nothing(acme):
    with tenant_context("acme"):
        with tenant_context(acme):
            pass
        assert current_tenant().slug == "acme"


def test_a_tenant_inside_control_and_back(acme):
    with control_plane():
        with tenant_context("acme"):
            assert current_tenant().slug == "acme"
        assert Tenant.objects.filter(slug="acme").exists()
