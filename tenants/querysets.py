"""
Ring two: querysets know where they were built and filled, and what is given to them; models know whose they are.

For every model, Django's own included: put in place once, on Django's classes, because reverse managers, form fields
and third-party code make querysets of classes that we have no say in.
"""

from collections.abc import Iterable, Iterator
from functools import wraps
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS
from django.db.models import ForeignObject, Subquery
from django.db.models.base import Model
from django.db.models.fields import related_lookups
from django.db.models.query import QuerySet, RawQuerySet

from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.planes import current, here, require_bound
from tenants.routers import lives_in, require_same_database


def _require_here(origin: str | None, what: str) -> None:
    """Of nowhere (``None``) is of here: a queryset that was built at import time belongs to nobody."""
    if origin is None or origin == here():
        return
    if current() is None:
        raise NoTenantError(
            f"{what} {origin} was used where nothing is bound. Return lists, not querysets, from a block."
        )
    raise WrongTenantError(f"{what} {origin} was used where {current()} is bound ({here()}). Build it again here.")


class _RowCache:
    """
    ``_result_cache``: filled in one database, read there only. The stamp is pickled and copied with the rows.

    Every queryset sets it to ``None`` when it is made, which tells where that was.
    """

    def __get__(self, queryset, owner=None):
        state = queryset.__dict__
        rows = state["_result_cache"]
        if rows is not None:
            bound = current()
            if bound is None or state["_filled_in"] != bound.alias:
                _require_here(state["_filled_in"], "A queryset filled in")
        return rows

    def __set__(self, queryset, rows):
        state, bound = queryset.__dict__, current()
        if rows is None:
            state.setdefault("_built_in", None if bound is None else bound.alias)
        else:
            if bound is not None and state["_built_in"] is None:
                raise WrongTenantError(
                    f"A queryset of {queryset.model._meta.label} that was built where nothing was bound would keep one "
                    "tenant's rows for the next. Clone it here first: queryset.all()."
                )
            state["_filled_in"] = None if bound is None else bound.alias
        state["_result_cache"] = rows


def _of_here(method):
    """The queryset itself belongs here; ``method`` has no arguments."""

    @wraps(method)
    def checked(self):
        if self._built_in is not None:
            bound = current()
            if bound is None or self._built_in != bound.alias:
                _require_here(self._built_in, "A queryset built in")
        return method(self)

    return checked


def _database_of_here(get_database):
    """
    ``QuerySet.db``, which whatever touches the database asks for first: ``count()``, ``update()``, ``iterator()`` ...

    Never ``default``: objects that came through ``using("default")`` (``createsuperuser``, ``loaddata``) would carry a
    name that means another database in the next binding. ``bulk_create()`` asks for each row: what the router would
    answer when it is given no hints is answered here.
    """

    def database(self):
        bound = current()
        if bound is None or self._built_in not in (None, bound.alias):
            _require_here(self._built_in, "A queryset built in")
            return get_database(self)
        if self._db is None and not self._hints and lives_in(self.model._meta.app_label, bound.plane):
            return bound.alias
        alias = get_database(self)
        return bound.alias if alias == DEFAULT_DB_ALIAS else alias

    return wraps(get_database)(database)


def _all_of_here(method):
    """The queryset itself, and the querysets given to it, belong here."""

    @wraps(method)
    def checked(self, *args, **kwargs):
        for queryset in (self, *args, *kwargs.values()):
            if isinstance(queryset, QuerySet):
                _require_here(queryset._built_in, "A queryset built in")
        return method(self, *args, **kwargs)

    return checked


def _checked_at_each_row(iterate):
    """Rows come from the database by the hundred: the connection's own check is not asked for each of them."""

    @wraps(iterate)
    def iterating(self, *args, **kwargs):
        origin = here()

        def rows() -> Iterator[Any]:
            for row in iterate(self, *args, **kwargs):
                _require_here(origin, "An iterator opened in")
                yield row

        return rows()

    return iterating


def _checked_at_each_row_async(iterate):
    @wraps(iterate)
    def iterating(self, *args, **kwargs):
        origin = here()

        async def rows():
            async for row in iterate(self, *args, **kwargs):
                _require_here(origin, "An iterator opened in")
                yield row

        return rows()

    return iterating


def _given_objects(name: str):
    """Django gives the router no hint for these, and 6.1 commits before it looks at the objects again."""
    method = getattr(QuerySet, name)

    @wraps(method)
    def checked(self, objs, *args, **kwargs):
        given: Any = objs if isinstance(objs, Model) else list(objs)
        _require_objects([given] if isinstance(given, Model) else given, f"{name}() was given")
        return method(self, given, *args, **kwargs)

    return checked


def _given_object(function, what: str):
    """``function`` turns its first argument, if it is a model's instance, into a bare key."""

    @wraps(function)
    def checked(value, *args, **kwargs):
        if isinstance(value, Model):
            _require_objects([value], what)
        return function(value, *args, **kwargs)

    return checked


def _key_of_related(get_foreign_related_value):
    """The one step that ``remove()`` of a many-to-many relation shares with others: it asks no router."""

    @wraps(get_foreign_related_value)
    def checked(self, instance):
        if current() is not None:
            _require_objects([instance], "A relation was given")
        return get_foreign_related_value(self, instance)

    return checked


def _require_objects(objects: Iterable[Any], what: str) -> None:
    bound = require_bound()
    for each in objects:
        if isinstance(each, Model) and each._state.db != bound.alias:
            require_same_database(each, bound, what)


def _equal_in_one_database(equal):
    """The same key in two tenants is two rows."""

    @wraps(equal)
    def checked(self, other):
        result = equal(self, other)
        if result is True and self is not other:
            mine, theirs = self._state.db, other._state.db
            return mine is None or theirs is None or mine == theirs
        return result

    return checked


def install() -> None:
    queryset, raw, model, subquery = cast(Any, QuerySet), cast(Any, RawQuerySet), cast(Any, Model), cast(Any, Subquery)
    for kind in (queryset, raw):
        kind._result_cache = _RowCache()
        kind._clone = _of_here(kind._clone)
        kind.db = property(_database_of_here(kind.db.fget))
    raw._built_in = None  # it asks for its database before it has a row cache
    for name in ("_merge_sanity_check", "_combinator_query", "resolve_expression"):
        setattr(queryset, name, _all_of_here(getattr(queryset, name)))
    for name in ("bulk_create", "bulk_update", "contains"):
        setattr(queryset, name, _given_objects(name))
    queryset._iterator = _checked_at_each_row(queryset._iterator)
    queryset.aiterator = _checked_at_each_row_async(queryset.aiterator)
    subquery.__init__ = _all_of_here(subquery.__init__)
    lookups, relation = cast(Any, related_lookups), cast(Any, ForeignObject)
    lookups.get_normalized_value = _given_object(lookups.get_normalized_value, "A filter was given")
    relation.get_foreign_related_value = _key_of_related(relation.get_foreign_related_value)
    model.prepare_database_save = _given_object(model.prepare_database_save, "update() was given")
    model.__eq__ = _equal_in_one_database(model.__eq__)
