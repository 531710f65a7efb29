"""Units in an event loop. Between two of their awaits, other units' steps come in wherever ``turn()`` is awaited."""

import asyncio

from asgiref.sync import sync_to_async
from django.db import transaction

from scans.models import Target, TaskQueue
from tests.interleaving.canaries import Unexpected, require_own, shared_key
from tests.interleaving.ledger import TASKS
from tests.interleaving.unit import unit_kind


async def read(unit, tenant, what):
    unit.count("orm", what)
    found = {target.pk: target.name async for target in Target.objects.all()}
    require_own(tenant, found, what)
    unit.machine.ledgers[tenant].require("targets", found, what)


async def write(unit, tenant, key=None):
    key = key or shared_key(unit.chance.choice([1, 2, 3]))
    mark = unit.mark_of(tenant)
    unit.count("orm", "write in a task")
    await Target.objects.filter(pk=key).aupdate(name=mark)
    unit.machine.ledgers[tenant].targets[key] = mark


def begin(unit, count):
    """Tenants for the unit, which nobody has to themselves, now or as long as it runs."""
    free = [tenant for tenant in unit.machine.tenants if tenant not in unit.machine.held]
    unit.tenants = tuple(unit.chance.sample(free, count))
    return unit.tenants


@unit_kind(2, is_async=True)
async def task(unit, turns):
    await turns.turn()
    (tenant,) = begin(unit, 1)
    async with unit.stack.bind(tenant):
        await read(unit, tenant, "read in a task")
        await turns.turn()
        await write(unit, tenant)
        await turns.turn()
        unit.count("orm", "get in a task")
        number = unit.chance.choice(TASKS)
        require_own(tenant, await TaskQueue.objects.aget(pk=number), "get in a task")
        await turns.turn()
        await sync_to_async(_transaction)(unit, tenant)
        await turns.turn()
        await read(unit, tenant, "read in a task")
        if unit.stack.is_guarded and unit.stack.bound() != tenant:
            raise Unexpected(f"{unit.stack.bound()} is bound in a task of {tenant}")


def _transaction(unit, tenant):
    mark = unit.mark_of(tenant)
    unit.count("orm", "a transaction in a task")
    with transaction.atomic():
        Target.objects.filter(pk=shared_key(1)).update(name=mark)
        require_own(tenant, list(Target.objects.all()), "a transaction in a task")
    unit.machine.ledgers[tenant].targets[shared_key(1)] = mark


@unit_kind(1.5, is_async=True)
async def gather(unit, turns):
    """Two tenants at once, each in a task of its own, out of a unit that has none bound."""
    await turns.turn()
    one, other = begin(unit, 2)

    async def work(tenant):
        async with unit.stack.bind(tenant):
            await asyncio.sleep(0)
            await write(unit, tenant)
            await asyncio.sleep(0)
            await read(unit, tenant, "read beside another tenant's task")

    await asyncio.gather(work(one), work(other))
    await turns.turn()
    await asyncio.gather(work(other), work(one))


@unit_kind(1, is_async=True)
async def tasks_that_outlive_their_block(unit, turns):
    await turns.turn()
    one, other = begin(unit, 2)
    has_ended = asyncio.Event()

    async def outlive():
        await has_ended.wait()
        await read(unit, one, "read in a task that outlives its block")

    async with unit.stack.bind(one):
        created = asyncio.create_task(outlive())
        await asyncio.sleep(0)
        await asyncio.to_thread(_read_in_a_thread, unit, one)
    await turns.turn()
    async with unit.stack.bind(other):
        has_ended.set()
        await created
        await read(unit, other, "read beside a task that outlives its block")


def _read_in_a_thread(unit, tenant):
    unit.count("orm", "read in to_thread")
    try:
        require_own(tenant, [target.name for target in Target.objects.all()], "to_thread")
    finally:
        unit.stack.let_go()


@unit_kind(1, is_async=True)
async def iterators_of_two_tenants(unit, turns):
    """
    One of them is left half-read, and read on where another tenant is bound: refused.

    In one turn: on SQLite a connection with an open iterator goes on reading what was there when it was opened, and
    this thread's connection is other tasks' as well.
    """
    await turns.turn()
    one, other = begin(unit, 2)
    async with unit.stack.bind(one):
        kept = Target.objects.aiterator(chunk_size=2)
        unit.count("orm", "open an asynchronous iterator")
        require_own(one, await anext(kept), "asynchronous iterator")
        queryset = Target.objects.all()
    async with unit.stack.bind(other):
        await _refused(unit, other, "an asynchronous iterator", lambda: anext(kept))
        await _refused(unit, other, "an asynchronous queryset", queryset.acount)
        await read(unit, other, "read after a refusal")
    await kept.aclose()


async def _refused(unit, tenant, what, act):
    unit.count("foreign", what)
    try:
        value = await act()
    except unit.stack.refusals as error:
        unit.refused(error)
        return
    require_own(tenant, value, what)
    if unit.stack.is_guarded:
        from tests.interleaving.canaries import NotRefused

        raise NotRefused(f"{what}: {value!r}")
