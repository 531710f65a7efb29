"""Handing things over: to oneself in the next tenant, over the shelf, and on loan."""

from contextlib import suppress

from django.db import connection, connections

from scans.models import Target
from tests.interleaving.canaries import NotRefused
from tests.interleaving.offences import CLASS_LEVEL, COMMITS, GROUPS, LENT, READS, SHELVED
from tests.interleaving.unit import operation


@operation("foreign", 5)
def leave_something_on_the_shelf(unit):
    name = unit.chance.choice(list(SHELVED))
    unit.machine.shelf.append((name, unit.tenant, SHELVED[name].make()))
    del unit.machine.shelf[:-40]
    unit.count("orm", f"make {name}")


@operation("foreign", 9)
def use_what_is_on_the_shelf(unit):
    """What another tenant's unit left, if there is any."""
    for name, tenant, thing in unit.machine.shelf[::-1]:
        if tenant != unit.tenant:
            use_of(unit, name, tenant, thing)
            with suppress(ValueError):  # another thread's unit was quicker
                unit.machine.shelf.remove((name, tenant, thing))
            return


def use_of(unit, name, tenant, thing):
    unit.must_be_refused(f"{name} of tenant {tenant}", lambda: _kept(SHELVED[name].use(thing)))


def _kept(value):
    """A queryset is of no use before it is read."""
    return list(value) if hasattr(value, "_result_cache") else value


@operation("foreign", 2)
def use_ones_own(unit):
    """Made in another binding of the same tenant: no offence."""
    name = unit.chance.choice(list(READS))
    thing = READS[name].make()
    yield
    unit.count("orm", f"use {name}")
    unit.own(_kept(READS[name].use(thing)), name)


@operation("foreign", 4)
def lend_something_open(unit):
    name = unit.chance.choice(list(LENT))
    with unit.open_across_steps():
        thing = LENT[name].make()
        unit.count("sql", f"lend {name}")
        unit.machine.lent.append((name, unit.tenant, unit.lane, thing))
        yield from while_lent(unit)
        with suppress(StopIteration, *unit.stack.refusals):
            if name.startswith("fetch"):
                unit.own(LENT[name].use(thing), name)
        close = getattr(thing, "close", None)
        if close is not None and not hasattr(thing, "vendor"):
            close()


def while_lent(unit):
    """Until somebody has taken it, or for a few steps. Gives whether somebody has."""
    entry = unit.machine.lent[-1]
    for _ in range(6):
        yield
        if entry not in unit.machine.lent:
            return True
    unit.machine.lent.remove(entry)
    return False


@operation("foreign", 4)
def use_what_is_lent(unit):
    for entry in list(unit.machine.lent):
        name, tenant, lane, thing = entry
        if tenant != unit.tenant and lane == unit.lane:
            unit.machine.lent.remove(entry)
            act = COMMITS.get(name) or LENT[name].use
            unit.must_be_refused(f"{name} of tenant {tenant}", lambda act=act, thing=thing: act(thing))
            return


@operation("foreign", 1)
def keep_rows_in_a_class_level_queryset(unit):
    queryset = unit.chance.choice([CLASS_LEVEL, GROUPS])
    unit.must_be_refused("a class-level queryset", lambda: list(queryset))
    unit.own(list(queryset.all()), "a clone of a class-level queryset")


@operation("foreign", 1)
def name_another_tenants_alias(unit):
    other = unit.free_tenant(but=unit.tenant)
    alias = unit.stack.alias(other)
    if unit.stack.is_guarded:  # else it is what it says
        unit.must_be_refused("using another alias", lambda: list(Target.objects.using(alias)))
        unit.must_be_refused("a connection by alias", lambda: _rows(alias))


def _rows(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name FROM scans_target")
        return cursor.fetchall()


@operation("foreign", 1)
def bind_another_tenant_inside(unit):
    other = unit.free_tenant(but=unit.tenant)

    def bind():
        with unit.stack.bind(other):
            return list(Target.objects.values_list("name", flat=True))

    if unit.stack.is_guarded:
        unit.must_be_refused(f"binding tenant {other} inside {unit.here}", bind)


@operation("orm", 1)
def bind_the_same_tenant_again(unit):
    """That changes nothing, at its end either."""
    with unit.stack.bind(unit.tenant):
        found = dict(Target.objects.values_list("pk", "name"))
    unit.require_bound()
    unit.ledger.require("targets", unit.own(found, "the same tenant again"), "the same tenant again")


@operation("foreign", 1)
def reach_for_control(unit):
    from tenants.models import Tenant

    def bind():
        with unit.stack.control():
            return Tenant.objects.count()

    if unit.stack.is_guarded:
        unit.must_be_refused("control inside a tenant", bind)
        unit.must_be_refused("a model of control", lambda: Tenant.objects.count())


@operation("foreign", 1)
def compare_with_another_tenants_object(unit):
    """The same key in two tenants is two rows."""
    for name, tenant, thing in list(unit.machine.shelf):
        if tenant != unit.tenant and isinstance(thing, Target) and thing.pk is not None:
            own = Target.objects.filter(pk=thing.pk).first()
            unit.count("foreign", "compare two tenants' objects")
            if own == thing and unit.stack.is_guarded:
                raise NotRefused(f"{name}: {own} of {unit.here} equals tenant {tenant}'s")
            return


@operation("foreign", 0.5)
def replace_a_connection(unit):
    def put():
        connections["default"] = connection

    def take_away():
        del connections["default"]

    if unit.stack.is_guarded:
        unit.must_be_refused("a connection in place of another", put)
        unit.must_be_refused("taking a connection away", take_away)


@operation("foreign", 1)
def collect_the_litter(unit):
    """Generators that nobody has closed hold bindings of their own: their end leaves this unit's alone."""
    unit.collect()
