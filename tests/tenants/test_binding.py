"""The rules of binding: how planes nest, and that a block ends however it ends."""

import contextvars
import threading
from contextlib import ExitStack

import pytest
from django.db import connection, transaction

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
from tests.invariants.work import add, names

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


# Open transactions at the end of a block


@pytest.mark.parametrize("begin", [lambda: transaction.atomic().__enter__(), lambda: transaction.set_autocommit(False)])
def test_an_open_transaction_is_rolled_back_and_raised(acme, begin):
    callbacks = []
    with pytest.raises(WrongTenantError, match="acme.* inside an open transaction"), tenant_context("acme"):
        begin()
        add("row")
        if connection.in_atomic_block:
            transaction.on_commit(lambda: callbacks.append("committed"))
    assert current() is None
    assert names("acme") == set()
    assert callbacks == []


def test_an_open_transaction_does_not_hide_the_blocks_own_error(acme):
    with pytest.raises(ValueError, match="the bug"), tenant_context("acme"):
        transaction.atomic().__enter__()
        add("row")
        raise ValueError("the bug")
    assert names("acme") == set()


def test_atomic_and_on_commit_inside_a_binding_are_the_tenants(acme):
    seen = []
    with tenant_context("acme"):
        with transaction.atomic():
            add("row 1")
            transaction.on_commit(lambda: seen.append((str(current()), ScanProfile.objects.get(name="row 1").name)))
            assert seen == []
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            add("row 2")
            transaction.on_commit(lambda: seen.append("rolled back"))
            1 / 0  # noqa: B018
        with transaction.atomic():
            assert ScanProfile.objects.select_for_update().filter(name="row 1").exists()
    assert seen == [("tenant 'acme'", "row 1")]
    assert names("acme") == {"row 1"}


def test_a_transaction_that_another_thread_left_is_nobodys_after_it(acme):
    """A pool's thread that ran in a copy of the context: its connection outlives the block that was copied."""
    started, go_on, ended = threading.Event(), threading.Event(), []

    def leave_open():
        transaction.atomic().__enter__()
        add("row left")

    def thread(context):
        context.run(leave_open)
        started.set()
        go_on.wait(10)
        with tenant_context("acme"):
            add("row after")
            ended.append(connection.in_atomic_block)

    with tenant_context("acme"):
        worker = threading.Thread(target=thread, args=[contextvars.copy_context()])
        worker.start()
        assert started.wait(10)
    go_on.set()
    worker.join()

    assert ended == [False]
    assert names("acme") == {"row after"}


# Blocks that end out of order


def holding(plane):
    with plane:
        yield "a step"


def test_a_generator_that_holds_a_binding_cannot_be_stepped_over(acme, globex):
    generator = holding(tenant_context("acme"))
    next(generator)  # from here the consumer is bound too, and told so as soon as it asks for anything else
    with pytest.raises(WrongTenantError), tenant_context("globex"):
        pytest.fail("was bound")
    generator.close()
    assert current() is None


def test_a_block_takes_with_it_what_a_generator_bound_inside_it(acme):
    generator = holding(tenant_context("acme"))
    with pytest.raises(WrongTenantError, match="inside an open transaction"), control_plane():
        next(generator)
        transaction.atomic().__enter__()
        add("row")
    assert current() is None
    with pytest.raises(WrongTenantError, match="ended where nothing is bound"):
        generator.close()
    assert current() is None
    assert names("acme") == set()


def test_a_block_closed_inside_another_units_leaves_that_alone(acme, globex):
    generator = holding(tenant_context("acme"))
    contextvars.copy_context().run(next, generator)
    with tenant_context("globex"):
        with pytest.raises(WrongTenantError, match="'acme'.*'globex'"):
            generator.close()
        assert current_tenant().slug == "globex"
    assert current() is None


def test_exits_in_the_wrong_order_end_both(acme):
    outer, inner = control_plane(), tenant_context("acme")
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(WrongTenantError, match="inside it"):
        outer.__exit__(None, None, None)
    assert current() is None
    with pytest.raises(WrongTenantError):
        inner.__exit__(None, None, None)
    assert current() is None


def test_a_block_that_ends_in_another_context_does_not_hide_its_error(acme):
    def work(stack):
        with stack:
            raise ValueError("the bug")

    stack = ExitStack()
    contextvars.copy_context().run(stack.enter_context, tenant_context("acme"))
    with pytest.raises(ValueError, match="the bug"):
        work(stack)
    assert current() is None


# after_unbind


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
