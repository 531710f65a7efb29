"""Bindings"""

import gc
from contextvars import Context, copy_context

from django.contrib.auth.models import Group
from django.db import connections

from tenants import planes
from tenants.binding import Binding, _control
from tenants.context import (
    after_unbind,
    control_plane,
    fleet_context,
    login_context,
    provisioning_context,
    server_plane,
    unbound,
)
from tenants.planes import Bound, current
from tenants.registry import registry
from tests.hostile.mechanism import BINDING, OPEN, Verdict, mechanism

# What the open ones share: such code lies about which work it belongs to, in a process that may do any tenant's work.
KEYS = (
    "The process acts as the other tenant's runtime account, which has no DDL and no other database; it cannot act as "
    "a migration account or as a server's administrator without the fleet key. On SQLite: nothing."
)


def where_nothing_is_bound(work):
    """The control of what is refused inside any tenant, the own one too."""
    return lambda aim: Context().run(work, aim)


def unbound_and_bound(aim):
    with control_plane(), unbound(), aim.bind():
        return names()


def forged_binding(aim):
    with Binding("mine", lambda bound: False, lambda: aim.kept):
        return names()


def names():
    return sorted(Group.objects.values_list("name", flat=True))


def bound_to(aim) -> Bound:
    """What a binding of it would set, put together from what the process has in memory."""
    if aim.slug is None:
        return _control()
    record = registry._records[aim.uuid]
    return Bound(aim.plane, record.alias, "runtime", record.runtime_database, record)


@mechanism("a plane bound inside the tenant", BINDING)
def nested(aim):
    """`with tenant_context("globex")`, `with control_plane()`."""
    with aim.bind():
        return names()


@mechanism("the other ways to bind a tenant", BINDING, aims=("globex",))
def other_contexts(aim):
    """`fleet_context`, `login_context`, `provisioning_context`."""
    refused = []
    for context in (fleet_context, login_context, lambda slug: provisioning_context(slug, "runtime")):
        try:
            with context(aim.slug):
                return names()
        except planes.WrongTenantError as error:
            refused.append(error)
    raise refused[-1]


def with_the_migration_account(aim):
    with fleet_context(aim.slug, "migration"):
        return names()


@mechanism(
    "a stronger account",
    BINDING,
    aims=("globex",),
    control=where_nothing_is_bound(with_the_migration_account),
    control_door="command",
)
def stronger_account(aim):
    """`fleet_context(..., "migration")`."""
    return with_the_migration_account(aim)


def on_the_server(aim):
    with server_plane(registry._records[aim.uuid].server), connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT name FROM {aim.database}.auth_group")
        return cursor.fetchall()


@mechanism(
    "a server's plane",
    mysql=BINDING,
    aims=("globex",),
    doors=("command",),
    control=where_nothing_is_bound(on_the_server),
)
def server(aim):
    """`server_plane(...)` with the server that a record names."""
    return on_the_server(aim)


@mechanism("unbound()", BINDING, control=where_nothing_is_bound(unbound_and_bound))
def unbound_inside(aim):
    """`with unbound():`, and then another plane in it."""
    with unbound(), aim.bind():
        return names()


@mechanism("a binding taken before, entered now", BINDING, keep=lambda aim: aim.bind())
def kept_binding(aim):
    """The object that `tenant_context()` gave to earlier work, not yet entered."""
    with aim.kept:
        return names()


def holding(aim):
    with aim.bind():
        while True:
            yield names()


@mechanism("a generator that binds", BINDING, keep=lambda aim: holding(aim))
def generator(aim):
    """A generator with `with tenant_context("globex")` in it, advanced inside acme."""
    return next(aim.kept)


@mechanism("`__enter__` without `__exit__`", BINDING)
def entered_by_hand(aim):
    """`tenant_context("globex").__enter__()`."""
    aim.bind().__enter__()
    return names()


@mechanism("copy_context().run()", BINDING)
def copied_context(aim):
    """A copied context has what is bound in it."""

    def work():
        with aim.bind():
            return names()

    return copy_context().run(work)


@mechanism(
    "a binding made by hand",
    BINDING,
    keep=lambda aim: current(),
    control=where_nothing_is_bound(forged_binding),
)
def resolve_forged(aim):
    """A `Binding` of its own making, whose `resolve` gives what was bound in earlier work."""
    return forged_binding(aim)


@mechanism("a hook that runs after the binding", Verdict("binding"), doors=("view", "job"), control=lambda aim: names())
def hook(aim):
    """`after_unbind(...)`: in requests and jobs it runs where nothing is bound."""
    after_unbind(lambda: aim.loot.append(names()))


@mechanism(
    "a hook that runs after a command's binding",
    OPEN,
    doors=("command",),
    aims=("control",),
    control=lambda aim: names(),
    outer="Nothing: `manage.py` binds control around its commands, which are operators' and may read it.",
)
def command_hook(aim):
    """The same in a command: there it runs in control."""
    after_unbind(lambda: aim.loot.append(names()))


@mechanism("an empty context", OPEN, outer=KEYS)
def empty_context(aim):
    """`contextvars.Context().run(...)`: unbound, and so free to bind another."""

    def work():
        with aim.bind():
            return names()

    return Context().run(work)


@mechanism("the ContextVar set to None", OPEN, outer=KEYS)
def set_to_none(aim):
    """`planes._bound.set(None)`, and then another plane."""
    planes._bound.set(None)
    with aim.bind():
        return names()


@mechanism("the ContextVar set to another plane", OPEN, outer=KEYS)
def rebound(aim):
    """`planes._bound.set(Bound(...))`, put together by hand from the registry's records."""
    planes._bound.set(bound_to(aim))
    return names()


@mechanism("a write under another plane", OPEN, outer=KEYS, writes=True)
def write_rebound(aim):
    """The same, and then an `UPDATE`."""
    planes._bound.set(bound_to(aim))
    Group.objects.update(name="defaced")


def scratch_table(aim):
    with fleet_context(aim.slug, "migration"), connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE scratch (id INT)")
        cursor.execute("DROP TABLE scratch")
        return names()


@mechanism(
    "DDL under another plane",
    sqlite=Verdict("connection", "DatabaseError"),
    mysql=Verdict("account", "1142"),
    aims=("globex",),
    control=where_nothing_is_bound(scratch_table),
    control_door="command",
)
def ddl_rebound(aim):
    """The same, and then `DROP TABLE`: it is a runtime account still. The control has the migration account."""
    planes._bound.set(bound_to(aim))
    connections["default"].cursor().execute("DROP TABLE auth_group")


@mechanism("the bound plane rewritten in place", OPEN, outer=KEYS)
def rewritten(aim):
    """`object.__setattr__` on the frozen `Bound`: alias, database and plane."""
    other, mine = bound_to(aim), current()
    for field in ("plane", "alias", "database", "record"):
        object.__setattr__(mine, field, getattr(other, field))
    return names()


@mechanism("the request's own binding ended from inside", OPEN, outer=KEYS)
def ended_from_inside(aim):
    """The door's `Binding`, found with `gc`, and its `__exit__` called; then another plane."""
    for each in gc.get_objects():
        if isinstance(each, Binding) and each._mine is current():
            each.__exit__(None, None, None)
            break
    with aim.bind():
        return names()
