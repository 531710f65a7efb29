"""
Edits by people: a row that somebody has looked at before they changed it is written only if it is still as they saw it.

A model derives from ``VersionedModel``, its API from ``tenants.edits.ChangeSerializer``, its pages from
``tenants.edits.VersionedForm`` and ``VersionedAdmin``. Why so: docs/adr/0015.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models
from django.db.models import F

from tenants.exceptions import DeletedMeanwhileError, StaleVersionError, UnnamedColumnsError
from tenants.models import TenantQuerySet


class VersionedQuerySet(TenantQuerySet):
    def update(self, **changes):
        """Counts as a change, so that whoever has read the row before is told; with ``version`` given, as that says."""
        if "version" not in changes and not changes.keys() <= self.model.UNREAD:
            changes["version"] = F("version") + 1
        return super().update(**changes)

    update.alters_data = True  # type: ignore[attr-defined]  # not for templates


class VersionedModel(models.Model):
    """
    ``save(update_fields=[...])`` of a loaded row is an UPDATE of the version that was read, and makes it the next one.
    It raises ``StaleVersionError`` if somebody else has changed the row since, and ``DeletedMeanwhileError`` if it is
    gone; nothing is written then. Fields in ``UNREAD`` neither ask nor count.
    """

    # What is written by whoever has not read it: machines' notes, and secrets, which nobody is shown.
    UNREAD: ClassVar[frozenset[str]] = frozenset()

    version = models.PositiveIntegerField(default=1)

    objects: ClassVar[Any] = models.Manager.from_queryset(VersionedQuerySet)()

    class Meta:
        abstract = True

    def _do_update(self, base_qs, using, pk_val, values, update_fields, forced_update, *returning):
        """Django's one UPDATE of a save. Where it may as well be an INSERT (a new row, a fixture's), it is Django's."""
        rest = (update_fields, forced_update, *returning)
        if self._state.adding and not forced_update:
            return super()._do_update(base_qs, using, pk_val, values, *rest)
        version = self._meta.get_field("version")
        changes = {field.name: value for field, _, value in values if field is not version}
        written = [each for each in values if each[0] is not version]
        is_counted = not changes.keys() <= self.UNREAD
        if is_counted:
            if "version" not in self.__dict__:
                raise UnnamedColumnsError(f"{self._meta.label} was read without its version. Add it to only().")
            base_qs = base_qs.filter(version=self.version)
            written.append((version, None, self.version + 1))
        updated = super()._do_update(base_qs, using, pk_val, written, *rest)
        if not updated:
            raise self._refused(using, changes)
        if is_counted:
            self.version += 1
        return updated

    def _refused(self, using: str, changes: Mapping[str, Any]) -> Exception:
        row = type(self)._base_manager.using(using).filter(pk=self.pk).first()
        if row is None:
            return DeletedMeanwhileError(f"This {self._meta.verbose_name} was deleted since it was read.")
        return stale(row, self.version, changes)


def stale(row: VersionedModel, read: int, changes: Mapping[str, Any]) -> StaleVersionError:
    """``row`` as it is now; ``changes`` to its fields were made to version ``read`` of it."""
    return StaleVersionError(str(row._meta.verbose_name), read, row.version, differences(row, changes))


def differences(row: VersionedModel, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Of each field that ``changes`` would make another than it is in ``row``: the new value, and the row's."""
    found = {}
    for field in row._meta.concrete_fields:
        if field.name in changes and field.name not in row.UNREAD | {"version"}:
            yours, theirs = changes[field.name], field.value_from_object(row)
            yours = yours.pk if isinstance(yours, models.Model) else yours
            if yours != theirs:
                found[field.name] = (yours, theirs)
    return found
