"""Units that end badly: what they leave behind is nobody else's."""

from contextlib import suppress
from contextvars import Context

from django.db import DatabaseError, connection, connections, transaction

from scans.models import Target
from tests.interleaving.canaries import Unexpected
from tests.interleaving.offence_operations import while_lent
from tests.interleaving.offences import COMMITS, begin
from tests.interleaving.orm_operations import Planned, names
from tests.interleaving.unit import OPERATIONS, unit_kind


@unit_kind(1)
def leaves_its_binding(unit):
    """Requests and jobs that come in after it are bound to their own tenants all the same."""
    tenant = unit.free_tenant()
    unit.stack.bind(tenant).__enter__()
    unit.is_now(tenant)
    yield from unit.work(2)
    unit.has_left_its_binding = True
    for name in ("list targets by http", "read the shared key by http", "patch by http"):
        yield from unit.do(OPERATIONS[name])
        yield


@unit_kind(2)
def holds_a_binding_in_a_generator(unit):
    """The generator is closed by itself, by its consumer, by somebody else, or by nobody."""
    tenant = unit.free_tenant()

    def rows():
        with unit.stack.bind(tenant):
            yield from list(Target.objects.all())

    unit.is_now(tenant)
    iterator, end = rows(), unit.chance.choice(["read", "close", "leave", "inside"])
    unit.count("orm", "read from a generator that binds")
    unit.own(next(iterator), "a generator that binds")
    yield
    unit.own(next(iterator), "a generator that binds")
    if end == "read":
        unit.own(list(iterator), "a generator that binds")
    elif end == "close":
        iterator.close()
    elif end == "leave":
        unit.machine.litter.append(iterator)
        del iterator
        yield
        return
    else:
        _end_inside(unit, tenant, iterator)
    unit.is_now(None)
    if unit.stack.is_guarded and unit.stack.bound() is not None:
        raise Unexpected(f"{unit.stack.bound()} is still bound by a generator")
    yield


def _end_inside(unit, tenant, iterator):
    """Its end comes while the unit has the next block open."""
    iterator.close()
    unit.is_now(None)
    with unit.bound(unit.free_tenant(but=tenant)):
        unit.count("orm", "read beside a closed generator")
        unit.own(list(Target.objects.all()), "beside a closed generator")


@unit_kind(1)
def crosses_blocks(unit):
    """Control's block ends while a generator holds a tenant bound inside it: both are ended, and it is said."""
    if not unit.stack.is_guarded:
        return
    tenant = unit.free_tenant()

    def rows():
        with unit.stack.bind(tenant):
            yield list(Target.objects.values_list("name", flat=True))

    unit.is_now(tenant)

    def leak():
        with unit.stack.control():
            iterator = rows()
            unit.own(next(iterator), "a generator inside control")
            unit.machine.litter.append(iterator)

    unit.must_be_refused("a binding that outlives the outer block", leak)
    unit.is_now(None)
    if unit.stack.bound() is not None:
        raise Unexpected(f"{unit.stack.bound()} is bound after both blocks have ended")
    yield
    with unit.bound():
        yield from unit.work(2)


@unit_kind(2)
def fails(unit):
    try:
        with unit.bound():
            yield from unit.work(3)
            if unit.chance.random() < 0.5:
                with transaction.atomic():
                    Target.objects.update(name=unit.mark())
                    raise Planned
            raise Planned
    except Planned:
        pass
    unit.is_now(None)
    if unit.stack.is_guarded and unit.stack.bound() is not None:
        raise Unexpected(f"{unit.stack.bound()} is bound after an error")
    with unit.bound():
        names(unit, Target.objects.all(), "after an error")
        yield from unit.work(2)


@unit_kind(1)
def ends_inside_a_transaction(unit):
    """It is rolled back, and it is said; the next unit's transaction is its own."""
    if not unit.stack.is_guarded:
        return
    tenant = unit.free_tenant()

    def leave_open():
        with unit.stack.bind(tenant):
            begin()
            Target.objects.update(name=unit.mark_of(tenant))

    unit.must_be_refused("a block that ends inside a transaction", leave_open)
    with unit.bound(tenant):
        names(unit, Target.objects.all(), "after an open transaction")
        yield from unit.work(1)


@unit_kind(1)
def leaves_a_transaction_and_its_binding(unit):
    """Nobody ever ends them: the next unit in this thread does not find itself in that transaction."""
    if not unit.stack.is_guarded:
        return
    tenant = unit.free_tenant()
    unit.stack.bind(tenant).__enter__()
    unit.is_now(tenant)
    unit.count("orm", "leave a transaction open")
    begin()
    Target.objects.update(name=unit.mark())

    def next_unit():
        with unit.stack.bind(tenant):
            return connection.in_atomic_block, list(Target.objects.all())

    is_inside, targets = Context().run(next_unit)
    if is_inside:
        raise Unexpected(f"A unit of {unit.here} began inside another one's transaction")
    names(unit, targets, "beside an abandoned transaction")
    yield


@unit_kind(2)
def lends_its_transaction(unit):
    """A foreign commit costs the owner the connection, and nothing of the transaction is kept."""
    if not unit.stack.is_guarded:
        return
    tenant, name = unit.free_tenant(), unit.chance.choice(list(COMMITS))
    with suppress(*unit.stack.refusals, DatabaseError), unit.stack.bind(tenant):
        unit.is_now(tenant)
        with unit.hold(), transaction.atomic():
            Target.objects.update(name=unit.mark())
            unit.count("sql", f"lend {name}")
            unit.machine.lent.append((name, tenant, unit.lane, connections["default"]))
            if not (yield from while_lent(unit)):
                transaction.set_rollback(True)
    unit.is_now(None)
    if unit.stack.bound() is not None:
        raise Unexpected(f"{unit.stack.bound()} is bound after a lost transaction")
    with unit.bound(tenant):
        names(unit, Target.objects.all(), "after a lost transaction")
    with unit.bound():
        yield from unit.work(2)
