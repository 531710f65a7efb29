"""Blocks that end badly: inside an open transaction, out of order, or in another context than they began in."""

import contextvars
import threading
from contextlib import ExitStack

import pytest
from django.db import connection, connections, transaction

from scans.models import ScanProfile
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.exceptions import WrongTenantError
from tenants.planes import current
from tests.invariants.work import add, names


@pytest.mark.parametrize("begin", [lambda: transaction.atomic().__enter__(), lambda: transaction.set_autocommit(False)])
def test_an_open_transaction_is_rolled_back_and_raised(acme, begin):
    callbacks = []
    with pytest.raises(WrongTenantError, match="acme.* inside an open transaction"), tenant_context("acme"):
        begin()
        add("row")
        kept = connections["default"]
        if connection.in_atomic_block:
            transaction.on_commit(lambda: callbacks.append("committed"))
    assert current() is None
    assert kept.retired  # at once: others may be waiting for its locks
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
