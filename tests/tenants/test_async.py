"""The same rules in event loops: a binding is the task's, and what touches connections runs in Django's own thread."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction

from scans.models import ScanProfile
from tenants.connections import close_tenant_connections
from tenants.context import after_unbind, control_plane, current_tenant, tenant_context
from tenants.exceptions import NoTenantError, TenantNotFoundError, WrongTenantError
from tenants.planes import current
from tenants.registry import registry
from tests.invariants.work import add, names


@pytest.fixture(autouse=True)
def _djangos_thread_keeps_nothing(installation):
    """asgiref's thread lives as long as the process; what it has open, a child forked later could not use."""
    yield
    asyncio.run(sync_to_async(close_tenant_connections)())


async def aadd(name):
    await ScanProfile.objects.acreate(name=name, engines={"ports": {}})


def test_tasks_side_by_side_are_each_in_their_own_tenant(acme, globex):
    async def work(slug, number):
        async with tenant_context(slug) as tenant:
            await asyncio.sleep(0)
            await aadd(f"row {number} of {slug}")
            await asyncio.sleep(0)
            assert current_tenant() == tenant
        assert current() is None

    async def main():
        await asyncio.gather(*(work(slug, number) for number in range(10) for slug in ("acme", "globex")))
        assert current() is None

    asyncio.run(main())

    assert names("acme") == {f"row {number} of acme" for number in range(10)}
    assert names("globex") == {f"row {number} of globex" for number in range(10)}


def test_the_nesting_rules_hold(acme, globex):
    async def main():
        async with control_plane():
            async with tenant_context("acme"):
                outer = current()
                async with tenant_context(acme):
                    assert current() is outer
                for inner in (tenant_context("globex"), control_plane()):
                    with pytest.raises(WrongTenantError):
                        async with inner:
                            pytest.fail("was bound")
                assert current() is outer
            assert current().plane == "control"
            await sync_to_async(transaction.set_autocommit)(False)
            with pytest.raises(WrongTenantError, match="open transaction"):
                async with tenant_context("acme"):
                    pytest.fail("was bound")
            await sync_to_async(transaction.set_autocommit)(True)
        assert current() is None
        binding = tenant_context("acme")
        async with binding:
            with pytest.raises(WrongTenantError, match="twice"):
                async with binding:
                    pytest.fail("was bound")
            assert current_tenant().slug == "acme"

    asyncio.run(main())


def test_work_handed_to_threads_and_tasks_takes_its_binding_with_it(acme, globex):
    async def main():
        async with tenant_context("acme"):
            assert (await asyncio.to_thread(current_tenant)).slug == "acme"
            assert (await sync_to_async(current_tenant)()).slug == "acme"
            assert (await sync_to_async(async_to_sync(acurrent))()).slug == "acme"
            outlives = asyncio.create_task(late())
            bare = asyncio.get_running_loop().run_in_executor(None, current)
            assert await bare is None
        assert current() is None
        async with tenant_context("globex"):
            go_on.set()
            await outlives
            await aadd("row of globex")

    async def acurrent():
        return current_tenant()

    async def late():
        await go_on.wait()
        with pytest.raises(WrongTenantError):
            async with tenant_context("globex"):
                pytest.fail("was bound")
        await aadd("row of the task that outlives its block")

    go_on = asyncio.Event()
    asyncio.run(main())

    assert names("acme") == {"row of the task that outlives its block"}
    assert names("globex") == {"row of globex"}


def test_a_tenant_that_is_not_known_freshly_needs_async_with(acme):
    async def main():
        with pytest.raises(SynchronousOnlyOperation, match="`async with` instead of `with`"), tenant_context("acme"):
            pytest.fail("was bound")
        assert current() is None
        async with tenant_context("acme"):
            pass
        with tenant_context("acme"):
            await aadd("row")
        registry.expire()
        with pytest.raises(SynchronousOnlyOperation), tenant_context("acme"):
            pytest.fail("was bound")
        with pytest.raises(TenantNotFoundError):
            async with tenant_context("nobody"):
                pytest.fail("was bound")

    registry.clear()
    asyncio.run(main())
    assert names("acme") == {"row"}


def test_plain_with_leaves_the_connections_of_the_loops_own_thread_alone(acme):
    """They were opened before the loop, and Django allows no use of them in it."""
    with tenant_context("acme"):
        ScanProfile.objects.count()
        connection.errors_occurred = True

    async def main():
        with tenant_context("acme"):
            pass

    asyncio.run(main())
    with tenant_context("acme"):
        assert ScanProfile.objects.exists() in (True, False)


@pytest.mark.parametrize("end", [asyncio.CancelledError, SystemExit, ValueError])
def test_the_block_ends_whatever_ends_it(acme, end):
    async def main():
        try:
            async with tenant_context("acme"):
                raise end
        finally:
            assert current() is None

    with pytest.raises(end):
        asyncio.run(main())


def test_a_task_cancelled_at_its_end_is_unbound_all_the_same(acme):
    entered, seen = asyncio.Event(), []

    async def work():
        try:
            async with tenant_context("acme"):
                after_unbind(lambda: threading.Event().wait(0.05))
                entered.set()
                await asyncio.sleep(0)
        finally:
            seen.append(current())

    async def main():
        task = asyncio.create_task(work())
        await entered.wait()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == [None]


def test_an_open_transaction_at_the_end_is_rolled_back_and_raised(acme):
    def leave_open():
        transaction.atomic().__enter__()
        add("row")

    async def main():
        with pytest.raises(WrongTenantError, match="inside an open transaction"):
            async with tenant_context("acme"):
                await sync_to_async(leave_open)()
        with pytest.raises(ValueError, match="the bug"):
            async with tenant_context("acme"):
                await sync_to_async(leave_open)()
                raise ValueError("the bug")
        assert current() is None

    asyncio.run(main())
    assert names("acme") == set()


def test_after_unbind_runs_outside_the_tenant(acme):
    seen = []

    def look():
        with pytest.raises(NoTenantError):
            ScanProfile.objects.count()
        seen.append(current())

    async def main():
        async with tenant_context("acme"):
            after_unbind(look)
        async with control_plane(), tenant_context("acme"):
            after_unbind(lambda: seen.append(str(current())))

    asyncio.run(main())
    assert seen == [None, "control plane"]


def test_an_async_generator_that_is_abandoned_ends_nobody_elses_binding(acme, globex):
    async def rows():
        async with tenant_context("acme"):
            async for row in ScanProfile.objects.all():
                yield row

    async def main():
        generator = rows()
        await asyncio.create_task(anext(generator))
        async with tenant_context("globex"):
            with pytest.raises(WrongTenantError, match="'acme'.*'globex'"):
                await generator.aclose()
            assert current_tenant().slug == "globex"

    with tenant_context("acme"):
        add("row 1"), add("row 2")
    asyncio.run(main())
