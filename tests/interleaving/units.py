"""The kinds of units: how they bind, and how they end."""

import threading
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.models import Group
from django.db import connection, connections, transaction

from scans.models import Target
from tests.interleaving import job_operations
from tests.interleaving.canaries import Unexpected, require_own
from tests.interleaving.offence_operations import use_of, use_what_is_lent
from tests.interleaving.offences import READS, SHELVED
from tests.interleaving.unit import OPERATIONS, unit_kind


@unit_kind(10)
def block(unit):
    with unit.bound():
        yield from unit.work(unit.chance.randint(4, 16))


@unit_kind(3)
def one_tenant_after_the_other(unit):
    """What was made in the first is used in the second, in one and the same unit."""
    kept, first = [], unit.free_tenant()
    with unit.bound(first):
        for _ in range(6):
            name = unit.chance.choice(list(SHELVED))
            kept.append((name, SHELVED[name].make()))
            unit.count("orm", f"make {name}")
        yield from unit.work(2)
    with unit.bound(unit.free_tenant(but=first)):
        for name, thing in kept:
            use_of(unit, name, first, thing)
            yield
        yield from unit.work(2)


@unit_kind(1)
def inside_control(unit):
    from tenants.models import Tenant

    with unit.stack.control():
        unit.count("orm", "list tenants")
        if unit.stack.is_guarded and Tenant.objects.count() != unit.machine.count:
            raise Unexpected("The list of tenants is another")
        yield
        if unit.stack.is_guarded:
            unit.must_be_refused("a tenant inside control's transaction", lambda: _bind_in_transaction(unit))
        with unit.bound() as tenant:
            made = {name: READS[name].make() for name in unit.chance.sample(list(READS), 3)}
            yield from unit.work(4)
        for name, thing in made.items():
            use_of(unit, name, tenant, thing)
        unit.must_be_refused("a tenant's model in control", lambda: list(Target.objects.all()))
        yield


@unit_kind(2)
def unbound(unit):
    """Nothing is bound: nothing can be reached."""
    kept = connections["default"]
    for act in unit.chance.sample(list(UNBOUND), 4):
        unit.must_be_refused(f"{act}, unbound", UNBOUND[act])
        yield
    for name, tenant, thing in [entry for entry in list(unit.machine.shelf) if entry[0] in READS][:3]:
        use_of(unit, name, tenant, thing)
    for _ in range(3):
        yield
        use_what_is_lent(unit)
    if unit.stack.is_guarded:
        with unit.bound():
            unit.must_be_refused("a connection taken unbound", kept.cursor)
        yield
        binding = unit.stack.bind(unit.free_tenant())
        with binding:
            unit.count("orm", "bind for a moment")
        unit.must_be_refused("a binding that was used", binding.__enter__)


def _bind_in_transaction(unit):
    with transaction.atomic(), unit.stack.bind(unit.free_tenant()):
        return "a tenant"


def _enter_atomic():
    with transaction.atomic():
        return "a transaction"


UNBOUND = {
    "get": lambda: Target.objects.first(),
    "list": lambda: list(Group.objects.all()),
    "create": lambda: Group.objects.create(name="nobody's"),
    "cursor": lambda: connection.cursor(),
    "atomic": _enter_atomic,
    "on_commit": lambda: transaction.on_commit(print),
    "savepoint": lambda: connection.savepoint(),
    "autocommit": lambda: connection.set_autocommit(False),
    "in_atomic_block": lambda: connection.in_atomic_block,
    "commit": lambda: connection.commit(),
    "an alias": lambda: connections["control"].cursor(),
    "what an alias stands for": lambda: connections["control"].settings_dict["NAME"],
    "ensure_connection": lambda: connection.ensure_connection(),
    "table names": lambda: connection.introspection.table_names(),
}


@unit_kind(1)
def starts_threads(unit):
    """A plain thread is unbound, whatever its parent has bound; it may bind another tenant."""
    with unit.bound():
        other, seen = unit.free_tenant(but=unit.tenant), []

        def plain():
            try:
                seen.append(list(Target.objects.all()))
            except unit.stack.refusals as error:
                seen.append(error)
            finally:
                unit.stack.let_go()

        def bound_elsewhere():
            try:
                with unit.stack.bind(other):
                    return [target.name for target in Target.objects.all()]
            finally:
                unit.stack.let_go()

        thread = threading.Thread(target=plain)
        thread.start()
        thread.join()
        unit.count("orm", "read in a plain thread")
        if isinstance(seen[0], Exception):
            unit.refused(seen[0])
        elif unit.stack.is_guarded:
            raise Unexpected("A plain thread has inherited a binding")
        yield
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(bound_elsewhere).result()
        unit.count("orm", f"read tenant {other} in an executor")
        require_own(other, found, "in an executor")
        yield from unit.work(2)


@unit_kind(2.4)
def requests(unit):
    """A thread of the web server: requests of one tenant after the other."""
    choices = [each for name, each in OPERATIONS.items() if each.kind == "http" and name != "read a body in steps"]
    for _ in range(unit.chance.randint(3, 8)):
        yield from unit.do(unit.chance.choices(choices, [each.weight for each in choices])[0])
        yield


@unit_kind(3)
def worker(unit):
    for _ in range(4):
        job_operations.perform(unit)
        if unit.stack.is_guarded and unit.stack.bound() is not None:
            raise Unexpected(f"A job has left {unit.stack.bound()} bound")
        yield
