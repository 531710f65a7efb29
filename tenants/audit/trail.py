"""
Writes the audit: each change of an audited model, whichever way of the ORM it takes, and events by name.

What is to be recorded locks the plane's ``AuditHead`` first, before it reads what was there: so the old values are
those that the change replaced, and no two changes wait for each other in a circle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, cast

from django.db import transaction
from django.db.models import Model
from django.db.models.query import QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.utils import timezone

from tenants.audit.models import AuditEvent, AuditHead, hash_after, plain
from tenants.audit.provenance import provenance
from tenants.audit.rules import AUDITED
from tenants.exceptions import UnrecordedWriteError

AT_ONCE = 1000  # rows that one update() may change
HIDDEN = "***"
TRAIL = (AuditEvent, AuditHead)

_recorded: ContextVar[type[Model] | None] = ContextVar("bulkhead_recorded", default=None)
Rows = dict[Any, dict[str, Any]]


def lock_head() -> AuditHead:
    """
    Inside ``atomic()``. Every change of audited rows does it before it touches them; whoever locks such rows by
    themselves, to look at them first, calls it before that, or the two wait for each other and one is undone.
    """
    return AuditHead.objects.select_for_update().get(pk=1)


def record(action: str, obj: Model | None = None, *, actor=None, **facts) -> None:
    """
    An event of the bound plane, in the caller's transaction: undone with it, if that is undone. ``actor`` is the user
    who did it, where it is not the request's; ``facts`` are plain values, none of them secret.
    """
    with transaction.atomic(savepoint=False):
        head = lock_head()
        model, key = (obj.__class__, obj.pk) if obj else (None, "")  # of a lazy user too, whose type is another
        _append(head, action, model, key, str(obj or ""), plain(facts), actor)


def _append(head: AuditHead, action: str, model, key, name: str, changes: dict, actor=None) -> None:
    event = AuditEvent(
        number=head.number + 1,
        at=timezone.now(),
        action=action,
        resource=model._meta.label_lower if model else "",
        object_id=str(key),
        object_name=name[:200],
        changes=changes,
        **provenance(actor)._asdict(),
    )
    event.hash = hash_after(head.hash, event.facts())
    with _recording(AuditEvent):
        event.save(force_insert=True)
    head.number, head.hash = event.number, event.hash
    with _recording(AuditHead):
        AuditHead.objects.filter(pk=1).update(number=head.number, hash=head.hash)


def set_kept_after(number: int, digest: str) -> None:
    """For what forgets the events up to this one. Inside ``atomic()``."""
    lock_head()
    with _recording(AuditHead):
        AuditHead.objects.filter(pk=1).update(kept_after=number, kept_after_hash=digest)


@contextmanager
def _recording(model: type[Model]) -> Iterator[None]:
    token = _recorded.set(model)
    try:
        yield
    finally:
        _recorded.reset(token)


@contextmanager
def _change(model: type[Model], keys: list) -> Iterator[list]:
    """Around a write of the rows with these keys; more may be added to the list. Inside ``atomic()``, head locked."""
    head = lock_head()
    before = _rows(model, keys)
    with _recording(model):
        yield keys
    after = _rows(model, keys)
    for key in keys:
        if key in after and (changes := _difference(model, before.get(key), after[key])):
            name = str(model._base_manager.get(pk=key))
            _append(head, "changed" if key in before else "created", model, key, name, changes)


def _rows(model: type[Model], keys: list) -> Rows:
    if not keys:
        return {}
    names = [field.attname for field in model._meta.concrete_fields]
    return {row[model._meta.pk.attname]: row for row in model._base_manager.filter(pk__in=keys).values(*names)}


def _difference(model: type[Model], old: dict | None, new: dict | None) -> dict[str, list]:
    rules, changes = AUDITED[model], {}
    for field in model._meta.concrete_fields:
        before, after = old and old[field.attname], new and new[field.attname]
        is_empty = (old is None or new is None) and before in (None, "") and after in (None, "")
        if field.primary_key or field.name in rules.unrecorded or before == after or is_empty:
            continue
        hidden = [value and HIDDEN for value in (before, after)]
        changes[field.name] = hidden if field.name in rules.secret else [plain(before), plain(after)]
    return changes


def _recorded_save(save_base):
    @wraps(save_base)
    def saving(self, raw=False, force_insert=False, force_update=False, using=None, update_fields=None):
        model = self._meta.concrete_model
        rules = AUDITED.get(model)
        if rules is None:
            return save_base(self, raw, force_insert, force_update, using, update_fields)
        if update_fields is not None and rules.unrecorded.issuperset(update_fields):
            with _recording(model):
                return save_base(self, raw, force_insert, force_update, using, update_fields)
        known = [] if force_insert or self.pk is None else [self.pk]
        with transaction.atomic(savepoint=False), _change(model, known) as keys:
            saved = save_base(self, raw, force_insert, force_update, using, update_fields)
            keys[:] = [self.pk]
            return saved

    return saving


def _recorded_update(update):
    @wraps(update)
    def updating(self, **values):
        rules = AUDITED.get(self.model._meta.concrete_model)
        if rules is None:
            return update(self, **values)
        if rules.unrecorded.issuperset(values):
            with _recording(self.model):
                return update(self, **values)
        with transaction.atomic(savepoint=False):
            keys = list(self.order_by().values_list("pk", flat=True)[: AT_ONCE + 1])
            if len(keys) > AT_ONCE:
                raise UnrecordedWriteError(_too_many("update()", self.model))
            with _change(self.model, keys):
                return update(self.filter(pk__in=keys), **values)

    return updating


def _recorded_bulk_create(bulk_create):
    @wraps(bulk_create)
    def creating(self, objs, *args, **options):
        if self.model not in AUDITED:
            return bulk_create(self, objs, *args, **options)
        if len(args) > 2 or options.get("update_conflicts"):
            raise UnrecordedWriteError(
                f"bulk_create() of {self.model._meta.label} cannot tell which rows it changed: use update_or_create()."
            )
        objs = list(objs)
        with transaction.atomic(savepoint=False), _change(self.model, [each.pk for each in objs if each.pk]) as keys:
            made = bulk_create(self, objs, *args, **options)
            keys[:] = [each.pk for each in made]
            return made

    return creating


def _recorded_delete(execute_sql):
    """Of rows, of querysets and in cascades: each of them ends in statements of this one compiler."""

    @wraps(execute_sql)
    def deleting(self, *args, **kwargs):
        model = self.query.get_meta().concrete_model
        if model in TRAIL:
            raise UnrecordedWriteError(f"{model._meta.label} is the audit: what was recorded is kept.")
        if model not in AUDITED:
            return execute_sql(self, *args, **kwargs)
        with transaction.atomic(savepoint=False):
            head = lock_head()
            query = self.query.clone()
            query.__class__ = Query
            names = {row.pk: str(row) for row in QuerySet(model, query, self.using)[: AT_ONCE + 1]}
            if len(names) > AT_ONCE:
                raise UnrecordedWriteError(_too_many("delete()", model))
            before = _rows(model, list(names))
            deleted = execute_sql(self, *args, **kwargs)
            for key, name in names.items():
                _append(head, "deleted", model, key, name, _difference(model, before[key], None))
            return deleted

    return deleting


def _too_many(method: str, model: type[Model]) -> str:
    return (
        f"{method} would reach more than {AT_ONCE} rows of {model._meta.label}, each of which is recorded: take fewer."
    )


def _refuse_unrecorded(execute_sql):
    """All ways to write end in one of three compilers, those included that ask no queryset."""

    @wraps(execute_sql)
    def checked(self, *args, **kwargs):
        model = self.query.get_meta().concrete_model
        if (model in AUDITED or model in TRAIL) and _recorded.get() is not model:
            raise UnrecordedWriteError(f"{model._meta.label} is audited: its rows are not written without a record.")
        return execute_sql(self, *args, **kwargs)

    return checked


def install() -> None:
    model, queryset = cast(Any, Model), cast(Any, QuerySet)
    model.save_base = _recorded_save(model.save_base)
    queryset.update = _recorded_update(queryset.update)
    queryset.bulk_create = _recorded_bulk_create(queryset.bulk_create)
    insert, change, delete = cast(Any, SQLInsertCompiler), cast(Any, SQLUpdateCompiler), cast(Any, SQLDeleteCompiler)
    insert.execute_sql = _refuse_unrecorded(insert.execute_sql)
    change.execute_sql = _refuse_unrecorded(change.execute_sql)
    delete.execute_sql = _recorded_delete(delete.execute_sql)
