"""The ORM"""

import pickle
from contextvars import Context

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.db import models, router, transaction
from django.db.models.query import QuerySet, RawQuerySet
from django.db.models.sql import Query

from tenants.accounts.models import User
from tenants.context import control_plane
from tenants.models import Tenant, TenantCredential
from tests.hostile.mechanism import CONNECTION, OPEN, ORM, ROUTER, Verdict, mechanism

OWN_ROWS = Verdict("ORM")


def in_control(model, field):
    """The control: where control is bound, the model is there; and then the own rows."""

    def read_there(aim):
        with control_plane():
            list(model.objects.values_list(field, flat=True))
        with aim.bind():
            return names(Group.objects.all())

    return lambda aim: Context().run(read_there, aim)


class Everything:
    """Querysets of classes, as views have them."""

    groups = Group.objects.all()


def names(rows):
    return sorted(rows.values_list("name", flat=True))


def first(aim):
    return Group.objects.order_by("name").first()


def filled(aim):
    rows = Group.objects.all()
    len(rows)
    return rows


def opened(aim):
    return Group.objects.order_by("-name").iterator(chunk_size=1)


def member(aim):
    """With a group to lead to."""
    user = User.objects.order_by("username").first()
    if not user.groups.exists():
        user.groups.add(first(aim))
    return user


def defaced(group):
    group.name = "defaced"
    return group


@mechanism("a lazy queryset", ORM, keep=lambda aim: Group.objects.all())
def lazy_queryset(aim):
    """Built in an earlier unit of work, evaluated in this one."""
    return names(aim.kept)


@mechanism("a queryset with its rows", ORM, keep=filled)
def filled_queryset(aim):
    """Evaluated in an earlier unit of work, read in this one."""
    return [group.name for group in aim.kept]


@mechanism("an iterator", ORM, keep=opened)
def iterator(aim):
    """`iterator()` of an earlier unit of work."""
    return [group.name for group in aim.kept]


@mechanism("a class-level queryset", ORM, control=lambda aim: [group.name for group in Everything.groups.all()])
def class_level(aim):
    """Built at import, evaluated in place, to keep its rows for the next request."""
    return [group.name for group in Everything.groups]


@mechanism("a pickled queryset", ORM, keep=lambda aim: pickle.dumps(filled(aim)))
def pickled_queryset(aim):
    """With its rows in it."""
    return [group.name for group in pickle.loads(aim.kept)]


@mechanism("a queryset in a subquery", ORM, keep=lambda aim: Group.objects.all())
def subquery(aim):
    """`filter(pk__in=<queryset of earlier work>)`."""
    return names(Group.objects.filter(pk__in=aim.kept))


@mechanism("a union", ORM, keep=lambda aim: Group.objects.all())
def union(aim):
    """`union()` with a queryset of earlier work."""
    return list(Group.objects.all().union(aim.kept).values_list("name", flat=True))


@mechanism("_db of a queryset", CONNECTION)
def forged_db(aim):
    """`queryset._db = alias`, by hand."""
    rows = Group.objects.all()
    rows._db = aim.alias
    return [group.name for group in rows]


@mechanism("QuerySet(using=)", CONNECTION)
def queryset_using(aim):
    """A queryset made without a manager."""
    return [group.name for group in QuerySet(Group, using=aim.alias)]


@mechanism("RawQuerySet(using=)", CONNECTION)
def raw_using(aim):
    """`RawQuerySet(..., using=alias)`."""
    return [group.name for group in RawQuerySet("SELECT * FROM auth_group", model=Group, using=aim.alias)]


@mechanism("a compiler of another alias", CONNECTION)
def compiler(aim):
    """`sql.Query(Group).get_compiler(using=alias).execute_sql()`."""
    query = Query(Group)
    query.add_fields(["name"])
    return [row for chunk in query.get_compiler(using=aim.alias).execute_sql() for row in chunk]


@mechanism("a forward relation of another's object", ROUTER, keep=lambda aim: Permission.objects.first())
def forward_relation(aim):
    """The relation leads through the object into the own database, to whatever has that key."""
    label = aim.kept.content_type.app_label
    return [label, *names(Group.objects.all())]


@mechanism("a many-to-many relation of another's object", ROUTER, keep=member)
def many_to_many(aim):
    """`user.groups` of a user of earlier work."""
    return names(aim.kept.groups)


@mechanism("another's object in a filter", ROUTER, keep=first)
def in_filter(aim):
    """`filter(group=<object of earlier work>)`."""
    list(Permission.objects.filter(group=aim.kept))
    return names(Group.objects.all())


@mechanism("a fixture with another's object", CONNECTION, writes=True)
def deserialized(aim):
    """`DeserializedObject.save(using=alias)`, as `loaddata --database` does."""
    text = serializers.serialize("json", [defaced(first(aim))])
    for each in serializers.deserialize("json", text):
        each.save(using=aim.alias)


@mechanism("a router of its own", OWN_ROWS)
def router_replaced(aim):
    """`django.db.router.routers = [...]`, one that answers with the other alias: querysets do not ask it."""

    class Router:
        db_for_read = db_for_write = staticmethod(lambda model, **hints: aim.alias)

    router.routers = [Router()]
    return [group.name for group in Group.objects.all()]


@mechanism("a model of control's", ROUTER, aims=("control",), control=in_control(Tenant, "slug"))
def control_model(aim):
    """`Tenant.objects`, which lives in control."""
    return list(Tenant.objects.values_list("slug", flat=True))


@mechanism("the sealed credentials' table", ROUTER, aims=("control",), control=in_control(TenantCredential, "user"))
def credentials_table(aim):
    """`TenantCredential.objects`."""
    return list(TenantCredential.objects.values_list("sealed_password", flat=True))


@mechanism(
    "a model of its own on another's table",
    sqlite=Verdict("connection", "OperationalError"),
    mysql=Verdict("account", "1142"),
)
def unmanaged_model(aim):
    """An unmanaged model whose `db_table` is a qualified name."""

    class Stolen(models.Model):
        name = models.CharField(max_length=150, primary_key=True)

        class Meta:
            managed = False
            app_label = "auth"
            db_table = 'main"."auth_group' if aim.slug == "acme" else f'{aim.alias}"."auth_group'

    if transaction.get_connection().vendor == "mysql":
        Stolen._meta.db_table = f"{aim.database}`.`auth_group"
    return [each.name for each in Stolen.objects.all()]


@mechanism(
    "extra() with another's table", sqlite=Verdict("connection", "OperationalError"), mysql=Verdict("account", "1142")
)
def extra(aim):
    """`extra(select={"stolen": "(SELECT ... FROM other.auth_group ...)"})`."""
    place = (
        aim.database if transaction.get_connection().vendor == "mysql" else {"acme": "main"}.get(aim.slug, aim.alias)
    )
    rows = Group.objects.extra(select={"stolen": f"(SELECT MAX(name) FROM {place}.auth_group)"})
    return [row.stolen for row in rows]


@mechanism("content types of another alias", CONNECTION, control=lambda aim: names(Group.objects.all()))
def content_types(aim):
    """`ContentType.objects.db_manager(alias)`, whose cache is keyed by alias."""
    return ContentType.objects.db_manager(aim.alias).get_for_model(Group).pk


@mechanism(
    "a kept content type's objects", Verdict("router"), keep=lambda aim: ContentType.objects.get_for_model(Group)
)
def content_type_object(aim):
    """`content_type.get_object_for_this_type()` of a content type that the cache handed out before."""
    return aim.kept.get_object_for_this_type(name__startswith="canary").name


@mechanism("a queryset's stamp forged", OWN_ROWS, keep=lambda aim: Group.objects.all())
def forged_stamp(aim):
    """`queryset._built_in = <own alias>`: it is then evaluated where the work is bound."""
    aim.kept._built_in = first(aim)._state.db
    return names(aim.kept)


@mechanism(
    "rows in memory, past the queryset's check",
    OPEN,
    keep=filled,
    outer="Nothing: what a process has read and keeps, code in it can read. The database is not asked.",
)
def rows_in_memory(aim):
    """`queryset.__dict__["_result_cache"]` of a queryset that earlier work left lying about."""
    return [group.name for group in aim.kept.__dict__["_result_cache"]]
