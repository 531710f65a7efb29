"""The guards themselves, patched"""

from django.contrib.auth.models import Group
from django.db import connection, connections

from tenants import connections as handler
from tenants import planes
from tenants.backends.guard import GuardedWrapper
from tenants.querysets import QuerySet
from tenants.routers import PlaneRouter
from tests.hostile.mechanism import OPEN, ORM, Verdict, mechanism, read
from tests.hostile.mechanisms.aliases import ACCOUNT, kept_connection
from tests.hostile.mechanisms.memory import MEMORY

IDENTITY = Verdict("connection", "TenantUnavailableError")
# The tenant that finds another's database in its place goes into maintenance: no second door opens.
ONCE = {"doors": ("view",), "aims": ("globex",), "tells_control": True}


def names():
    return sorted(Group.objects.values_list("name", flat=True))


@mechanism("the router patched", Verdict("ORM"))
def patched_router(aim):
    """`PlaneRouter.db_for_read` answers with the other alias: querysets do not ask it."""
    PlaneRouter.db_for_read = PlaneRouter.db_for_write = lambda self, model, **hints: aim.alias
    return [group.name for group in Group.objects.all()]


@mechanism("the check of aliases patched", Verdict("connection"))
def patched_alias_check(aim):
    """`real_alias` lets every name through: what is opened is still what is bound."""
    handler.real_alias = planes.real_alias = lambda alias: alias
    return read(connections[aim.alias].cursor())


@mechanism("the querysets' check patched", Verdict("connection"), keep=lambda aim: Group.objects.all())
def patched_querysets(aim):
    """`QuerySet._clone` and `db` without their checks: a queryset of earlier work asks the bound database."""
    QuerySet._clone = QuerySet._clone.__wrapped__
    QuerySet.db = property(QuerySet.db.fget.__wrapped__)
    return names() if aim.slug == "acme" else [group.name for group in aim.kept._clone()]


@mechanism("the models' check patched", ORM, keep=lambda aim: Group.objects.first(), writes=True)
def patched_models(aim):
    """`Model.save_base` without its check, for an object of earlier work: the router is asked all the same."""
    Group.save_base = Group.save_base.__wrapped__
    aim.kept.name = "defaced"
    aim.kept.save()


@mechanism("the guard patched", OPEN, keep=kept_connection, outer=MEMORY)
def patched_guard(aim):
    """`GuardedWrapper.require_own_plane` lets everything through: an idle connection of the other's serves."""
    GuardedWrapper.require_own_plane = lambda self: planes.current()
    return read(aim.kept.cursor())


@mechanism("a kept connection that is said to be the own one", OPEN, keep=kept_connection, outer=MEMORY)
def renamed(aim):
    """`kept.alias = <own alias>`: the guard believes what it finds on the object."""
    aim.kept.alias = connection.alias if connection.alias != "default" else planes.current().alias
    return read(aim.kept.cursor())


@mechanism("the own connection's settings", sqlite=IDENTITY, mysql=ACCOUNT, **ONCE)
def redirected(aim):
    """`connection.settings_dict["NAME"] = <the other's database>`, and a new connection."""
    connection.close()
    connection.settings_dict["NAME"] = aim.database_settings["NAME"]
    return read(connection.cursor())


@mechanism("a connection made by hand under the own alias", sqlite=IDENTITY, mysql=ACCOUNT, **ONCE)
def under_own_alias(aim):
    """Our backend's `DatabaseWrapper(<the other's database>, <own alias>)`."""
    wrapper = type(connections["default"])(aim.database_settings, planes.current().alias)
    wrapper.bound = planes.current()
    return read(wrapper.cursor())
