"""The rules of binding: how planes nest, and that a block ends however it ends."""

import pytest
from django.db import transaction

from scans.models import ScanProfile
from tenants import connections
from tenants.context import (
    after_unbind,
    control_plane,
    current_tenant,
    fleet_context,
    login_context,
    server_plane,
    tenant_context,
    unbound,
)
from tenants.exceptions import (
    NoTenantError,
    TenantNotFoundError,
    TenantSuspendedError,
    TenantUnavailableError,
    WrongTenantError,
)
from tenants.models import RegistryRevision, Tenant
from tenants.planes import current
from tenants.provisioning import Server
from tenants.services import suspend_tenant

SERVER = Server(name="local", engine="sqlite", host="", port=None, admin_user="", sealed_admin_password="")
REFUSED = {
    "another tenant in a tenant": (lambda: tenant_context("acme"), lambda: tenant_context("globex")),
    "control in a tenant": (lambda: tenant_context("acme"), control_plane),
    "unbound in a tenant": (lambda: tenant_context("acme"), unbound),
    "a server in a tenant": (lambda: tenant_context("acme"), lambda: server_plane(SERVER)),
    "a stronger account in a tenant": (lambda: tenant_context("acme"), lambda: fleet_context("acme", "migration")),
    "a tenant in a server": (lambda: server_plane(SERVER), lambda: tenant_context("acme")),
    "control in a server": (lambda: server_plane(SERVER), control_plane),
    "unbound in a server": (lambda: server_plane(SERVER), unbound),
}


@pytest.mark.parametrize("outer, inner", REFUSED.values(), ids=REFUSED.keys())
def test_refused_nesting_says_both_sides_and_changes_nothing(acme, globex, outer, inner):
    with outer():
        before = current()
        with pytest.raises(WrongTenantError) as refusal, inner():
            pytest.fail("was bound")
        assert current() is before

    assert current() is None
    assert str(before) in str(refusal.value)


def test_the_same_plane_again_changes_nothing(acme):
    for plane, again in (
        (tenant_context("acme"), (tenant_context(acme), tenant_context(acme.id), fleet_context("acme"))),
        (fleet_context("acme", "migration"), (tenant_context("acme"), fleet_context("acme", "migration"))),
        (control_plane(), (control_plane(),)),
        (server_plane(SERVER), (server_plane(SERVER),)),
    ):
        with plane:
            outer = current()
            for nested in again:
                with nested:
                    assert current() is outer
                assert current() is outer
        assert current() is None


def test_a_tenant_inside_control_and_back_again(acme, globex):
    with control_plane():
        control = current()
        for slug in ("acme", "globex"):
            with tenant_context(slug):
                assert current_tenant().slug == slug
            assert current() is control
        with unbound():
            assert current() is None
        assert Tenant.objects.filter(slug="acme").exists()
    assert current() is None


@pytest.mark.parametrize("begin", [lambda: transaction.atomic().__enter__(), lambda: transaction.set_autocommit(False)])
@pytest.mark.parametrize("inner", [lambda: tenant_context("acme"), unbound])
def test_nothing_is_bound_inside_an_open_transaction_of_control(acme, begin, inner):
    with pytest.raises(WrongTenantError, match="rolled back"), control_plane():
        begin()
        with pytest.raises(WrongTenantError, match="open transaction"), inner():
            pytest.fail("was bound")


def test_a_binding_is_used_once(acme):
    binding = tenant_context("acme")
    with binding:
        with pytest.raises(WrongTenantError, match="twice"), binding:
            pytest.fail("was bound")
        assert current_tenant().slug == "acme"
    with pytest.raises(WrongTenantError, match="twice"), binding:
        pytest.fail("was bound")


@pytest.mark.parametrize("end", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_the_block_ends_whatever_ends_it_and_says_what_did(acme, end):
    with pytest.raises(end), control_plane():
        try:
            with tenant_context("acme"):
                raise end
        finally:
            assert current().plane == "control"
    assert current() is None


@pytest.mark.parametrize(
    "states, context, error",
    [
        ({"suspended"}, tenant_context, TenantSuspendedError),
        ({"maintenance"}, tenant_context, TenantUnavailableError),
        ({"maintenance"}, login_context, TenantUnavailableError),
        ({"maintenance"}, fleet_context, TenantUnavailableError),
        ({"provisioning", "deleting", "deleted"}, tenant_context, TenantNotFoundError),
        ({"provisioning", "deleting", "deleted"}, login_context, TenantNotFoundError),
        ({"provisioning", "deleting", "deleted"}, fleet_context, TenantNotFoundError),
    ],
)
def test_a_tenant_that_is_not_served_is_not_bound(acme, states, context, error):
    for state in states:
        with control_plane(), transaction.atomic():
            RegistryRevision.publish([acme], state=state)
        with pytest.raises(error, match="acme"), context("acme"):
            pytest.fail("was bound")
        assert current() is None


def test_a_suspended_tenant_is_bound_for_log_in_and_fleet(acme):
    suspend_tenant(slug="acme")
    for context in (login_context, fleet_context):
        with context("acme") as tenant:
            assert tenant.state == "suspended"


@pytest.mark.parametrize("nobody", ["nobody", "ACME", "acme ", "acmé", "\ud800", "", "a" * 5000, "acme\0"], ids=ascii)
def test_what_is_no_tenants_slug_binds_nothing(acme, nobody):
    with pytest.raises(TenantNotFoundError), tenant_context(nobody):
        pytest.fail("was bound")
    assert current() is None


def test_a_failure_half_way_leaves_nothing_bound(acme, monkeypatch):
    def fail(*args):
        raise RuntimeError("the connection's check failed")

    monkeypatch.setattr(connections, "before_bind", fail)
    with pytest.raises(RuntimeError), control_plane():
        pytest.fail("was bound")
    assert current() is None


def test_after_unbind_runs_in_order_outside_the_tenant_however_the_block_ends(acme, caplog):
    seen = []

    def broken():
        raise ValueError("a hook's bug")

    with control_plane():
        for end in (None, ValueError):
            try:
                with tenant_context("acme"):
                    after_unbind(lambda: seen.append(("first", str(current()))))
                    after_unbind(broken)
                    with tenant_context("acme"):
                        after_unbind(lambda: seen.append(("last", Tenant.objects.filter(slug="acme").count())))
                    assert len(seen) in (0, 2)
                    if end:
                        raise end
            except ValueError:
                pass

    assert seen == [("first", "control plane"), ("last", 1)] * 2
    assert caplog.text.count("hook of tenant 'acme' failed") == 2


def test_after_unbind_without_control_runs_unbound(acme):
    seen = []

    def look():
        with pytest.raises(NoTenantError):
            ScanProfile.objects.count()
        seen.append(current())

    with pytest.raises(WrongTenantError), tenant_context("acme"):
        after_unbind(look)
        transaction.atomic().__enter__()
    assert seen == [None]
