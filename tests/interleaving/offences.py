"""
What is made in one tenant and then used in another. Things that stay as they are go over the shelf to whoever comes;
what is open (iterators, cursors, connections) is lent, and its owner goes on with it afterwards.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.db.models import Exists, OuterRef, Prefetch, Q, Subquery, prefetch_related_objects

from scans.models import Authorization, Scan, Target, TaskQueue
from tests.interleaving.canaries import shared_key


class Offence(NamedTuple):
    make: Callable[[], Any]
    use: Callable[[Any], Any]


def filled(queryset):
    len(queryset)
    return queryset


def first():
    return Target.objects.order_by("id").first()


def owner():
    return get_user_model().objects.get(username="owner")


def changed(instance, **values):
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


def without_key(instance):
    return changed(instance, pk=None)


def read(value):
    return list(value)


NO_SCANS = {"target__name": "nobody's"}
LAZY: dict[str, Callable[[], Any]] = {
    "a lazy queryset": lambda: Target.objects.all(),
    "a filter chain": lambda: Target.objects.filter(is_active=True).order_by("id"),
    "a slice": lambda: Target.objects.all()[:2],
    "values": lambda: Target.objects.values("name"),
    "a filled queryset": lambda: filled(Target.objects.all()),
    "a filled list of groups": lambda: filled(Group.objects.all()),
    "a filled list of content types": lambda: filled(ContentType.objects.filter(app_label="deck")),
    "a filled raw queryset": lambda: filled(Target.objects.raw("SELECT * FROM scans_target")),
    "a raw queryset": lambda: Target.objects.raw("SELECT * FROM scans_target"),
    "a copied queryset": lambda: copy.copy(filled(Target.objects.all())),
    "a deeply copied queryset": lambda: copy.deepcopy(Target.objects.all()),
    "a related manager's queryset": lambda: Target.objects.get(pk=shared_key(2)).scans.all(),
}
# Reading these is no offence in the tenant that they were made in.
READS: dict[str, Offence] = {name: Offence(make, read) for name, make in LAZY.items()} | {
    "count of a queryset": Offence(lambda: Target.objects.all(), lambda made: made.count()),
    "aggregate of a queryset": Offence(lambda: Target.objects.all(), lambda made: made.aggregate()),
    "first of a queryset": Offence(lambda: Target.objects.order_by("id"), lambda made: made.first()),
    "get from a queryset": Offence(lambda: Target.objects.all(), lambda made: made.get(pk=shared_key(1))),
    "in_bulk of a queryset": Offence(lambda: Target.objects.all(), lambda made: made.in_bulk([shared_key(1)])),
    "a clone of a queryset": Offence(lambda: Target.objects.all(), lambda made: made.filter(is_active=True)),
    "a row of a filled queryset": Offence(lambda: filled(Target.objects.all()), lambda made: made[0]),
    "the count of a filled queryset": Offence(lambda: filled(Target.objects.all()), lambda made: made.count()),
    "a pickled queryset": Offence(lambda: pickle.dumps(Target.objects.all()), lambda made: list(pickle.loads(made))),
    "a pickled filled queryset": Offence(
        lambda: pickle.dumps(filled(Target.objects.all())), lambda made: list(pickle.loads(made))
    ),
    "a prefetched relation": Offence(
        lambda: Target.objects.prefetch_related("scans").get(pk=shared_key(2)), lambda made: list(made.scans.all())
    ),
    "a related manager": Offence(lambda: first().scans, lambda made: list(made.all())),
    "a forward relation": Offence(lambda: Scan.objects.first(), lambda made: made.target),
    "a deferred field": Offence(lambda: Target.objects.only("id").first(), lambda made: made.name),
    "a refresh": Offence(first, lambda made: made.refresh_from_db()),
    "an object that came through default": Offence(
        lambda: Target.objects.using("default").order_by("id").first(), lambda made: made.refresh_from_db()
    ),
    "prefetching on objects": Offence(lambda: [first()], lambda made: prefetch_related_objects(made, "scans")),
    "an object in a filter": Offence(first, lambda made: list(Scan.objects.filter(target=made))),
    "an object in Q": Offence(first, lambda made: list(Scan.objects.filter(~Q(target=made)))),
    "objects in a list": Offence(lambda: [first()], lambda made: list(Scan.objects.filter(target__in=made))),
    "a queryset in a filter": Offence(
        lambda: Target.objects.all(), lambda made: list(Scan.objects.filter(target__in=made))
    ),
    "a queryset in Subquery": Offence(lambda: Target.objects.values("pk"), lambda made: Subquery(made)),
    "a queryset in Exists": Offence(
        lambda: Scan.objects.filter(target=OuterRef("pk")), lambda made: list(Target.objects.filter(Exists(made)))
    ),
    "a queryset in Prefetch": Offence(
        lambda: Scan.objects.all(),
        lambda made: list(Target.objects.prefetch_related(Prefetch("scans", queryset=made))),
    ),
    "a union": Offence(lambda: Target.objects.order_by(), lambda made: list(Target.objects.order_by().union(made))),
    "a combination": Offence(lambda: Target.objects.all(), lambda made: list(Target.objects.all() | made)),
    "contains": Offence(first, lambda made: Target.objects.contains(made)),
    "full_clean": Offence(lambda: owner(), lambda made: made.full_clean(exclude=["password"])),
    "a relation through an object": Offence(first, lambda made: Authorization(target=made, statement="x")),
    "an alias by name": Offence(
        lambda: connection.alias if connection.alias != "default" else connections["default"].alias,
        lambda made: list(Target.objects.using(made)),
    ),
}
# These would write.
WRITES: dict[str, Offence] = {
    "save of one field": Offence(first, lambda made: made.save(update_fields=["name"])),
    "save with using": Offence(first, lambda made: made.save(using="default", update_fields=["name"])),
    "save of a loaded task": Offence(
        lambda: TaskQueue.objects.get(pk=41), lambda made: made.save(update_fields=["dispatches"])
    ),
    "save of a renamed group": Offence(lambda: Group.objects.get(pk=1), lambda made: made.save()),
    "save of a copy": Offence(lambda: copy.deepcopy(first()), lambda made: made.save(update_fields=["name"])),
    "save of a copy with a new key": Offence(lambda: without_key(first()), lambda made: made.save(force_insert=True)),
    "save of a pickled object": Offence(
        lambda: pickle.dumps(first()), lambda made: pickle.loads(made).save(update_fields=["name"])
    ),
    "delete of an object": Offence(lambda: Authorization.objects.get(pk=shared_key(21)), lambda made: made.delete()),
    "delete with using": Offence(
        lambda: Authorization.objects.get(pk=shared_key(21)), lambda made: made.delete(using="default")
    ),
    "update of a queryset": Offence(lambda: Target.objects.all(), lambda made: made.update(host="other.example")),
    "delete of a queryset": Offence(lambda: Authorization.objects.all(), lambda made: made.delete()),
    "update with an object": Offence(first, lambda made: Scan.objects.filter(pk=shared_key(41)).update(target=made)),
    "save of a row that was given an object": Offence(
        first,
        lambda made: changed(Authorization.objects.get(pk=shared_key(21)), target=made).save(update_fields=["target"]),
    ),
    "bulk_create": Offence(lambda: [first()], lambda made: Target.objects.bulk_create(made, ignore_conflicts=True)),
    "bulk_update": Offence(lambda: [first()], lambda made: Target.objects.bulk_update(made, ["name"])),
    "get_or_create of a queryset": Offence(lambda: Group.objects.all(), lambda made: made.get_or_create(name="theirs")),
    "add to a relation": Offence(owner, lambda made: Group.objects.get(pk=2).user_set.add(made)),
    "set of a relation": Offence(lambda: [owner()], lambda made: Group.objects.get(pk=1).user_set.set(made)),
    "remove from a relation": Offence(owner, lambda made: Group.objects.get(pk=1).user_set.remove(made)),
    "add to an object's relation": Offence(owner, lambda made: made.groups.add(2)),
    "update by a kept alias": Offence(
        lambda: Target.objects.all().db, lambda made: Target.objects.using(made).update(host="other.example")
    ),
}
SHELVED: dict[str, Offence] = READS | WRITES


def opened(iterator):
    next(iterator)
    return iterator


def executed():
    cursor = connections["default"].cursor()
    cursor.execute("SELECT name FROM scans_target ORDER BY id")
    cursor.fetchone()
    return cursor


def iterated():
    """A cursor as an iterator, one row of it taken."""
    return opened(iter(executed()))


SELECT = "SELECT name FROM scans_target"
WRITE = "UPDATE scans_target SET host = 'other.example'"
# What is open; used by others while its owner waits.
LENT: dict[str, Offence] = {
    "an iterator": Offence(lambda: opened(Target.objects.iterator(chunk_size=2)), next),
    "an iterator of values": Offence(lambda: opened(Target.objects.values("name").iterator(chunk_size=2)), next),
    "a raw iterator": Offence(lambda: opened(Target.objects.raw(f"{SELECT[:7]} * {SELECT[11:]}").iterator()), next),
    "an iterator of a cursor": Offence(iterated, next),
    "the iterator of a fresh cursor": Offence(executed, lambda made: next(iter(made))),
    "fetchone of a cursor": Offence(executed, lambda made: made.fetchone()),
    "fetchmany of a cursor": Offence(executed, lambda made: made.fetchmany(2)),
    "fetchall of a cursor": Offence(executed, lambda made: made.fetchall()),
    "a kept fetchall": Offence(lambda: executed().fetchall, lambda made: made()),
    "execute on a cursor": Offence(executed, lambda made: made.execute(SELECT)),
    "a write on a cursor": Offence(executed, lambda made: made.execute(WRITE)),
    "executemany on a cursor": Offence(executed, lambda made: made.executemany(WRITE + " WHERE id = %s", [("x",)])),
    "callproc on a cursor": Offence(executed, lambda made: made.callproc("nothing")),
    "an attribute of a cursor": Offence(executed, lambda made: made.description),
    "a kept method of the driver's cursor": Offence(lambda: executed().setinputsizes, lambda made: made([])),
    "a connection's cursor": Offence(lambda: connections["default"], lambda made: made.cursor()),
    "a connection's copy": Offence(lambda: connections["default"], lambda made: made.copy()),
    "a connection's new handle": Offence(
        lambda: connections["default"], lambda made: made.get_new_connection(made.get_connection_params())
    ),
}
# These would commit what is open there; refused, they cost its owner the connection.
COMMITS: dict[str, Callable[[Any], Any]] = {
    "commit of a connection": lambda made: made._commit(),
    "autocommit of a connection": lambda made: made._set_autocommit(True),
}
CLASS_LEVEL = Target.objects.order_by("id")  # built where nothing is bound
GROUPS = Group.objects.order_by("id")


async def next_of(iterator):
    return await anext(iterator)


next_in_async = async_to_sync(next_of)


def begin():
    """A transaction that is left open."""
    transaction.atomic().__enter__()
