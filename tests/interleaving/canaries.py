"""What names the tenant in every row, and what is raised when a row turns up where it must not be."""

import re
from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet

CANARY = re.compile(r"canary-(\d\d)-|ca9aca9a-?ca9a-?40(\d\d)")


class Found(Exception):
    """What the machine looks for."""


class ForeignCanary(Found):
    """A row of another tenant was read, or lies at rest where it does not belong."""


class NotRefused(Found):
    """What was made in one tenant was of use in another."""


class Misdirected(Found):
    """A row is missing, or is not as its tenant wrote it."""


class Unexpected(Found):
    """An error that is none of the named refusals, or an answer that should not have been given."""


def canary(tenant: int, serial: object) -> str:
    return f"canary-{tenant:02d}-{serial}"


def canary_uuid(tenant: int, serial: int) -> UUID:
    """For rows that have no text."""
    return UUID(f"ca9aca9a-ca9a-40{tenant:02d}-8000-{serial:012x}")


def shared_key(number: int) -> UUID:
    """The same in all tenants."""
    return UUID(int=(0x7000 << 64) | (0x8000 << 48) | number)


def text_of(value: Any, seen: tuple = ()) -> str:
    """All that ``value`` holds, related rows that came with it too, without asking a database for more."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Model):
        if any(value is each for each in seen):  # an object and what was prefetched for it name each other
            return ""
        fields = value.__dict__
        own = [str(fields[field.attname]) for field in value._meta.concrete_fields if field.attname in fields]
        related = [*value._state.fields_cache.values(), *fields.get("_prefetched_objects_cache", {}).values()]
        return " ".join([*own, text_of(related, (*seen, value))])
    if isinstance(value, dict):
        return text_of([*value.keys(), *value.values()], seen)
    if isinstance(value, QuerySet | RawQuerySet):
        return text_of(value.__dict__["_result_cache"], seen)
    if isinstance(value, list | tuple | set | frozenset):
        return " ".join([text_of(each, seen) for each in value])
    return str(value)


def owners(value: Any) -> set[int]:
    return {int(first or second) for first, second in CANARY.findall(text_of(value))}


def require_own(tenant: int | None, value: Any, what: str) -> Any:
    """``value`` itself. Raises ``ForeignCanary``; ``tenant`` is ``None`` where no row at all is due."""
    if foreign := owners(value) - {tenant}:
        raise ForeignCanary(f"{what}: tenant {tenant} was given a row of {sorted(foreign)}: {text_of(value)[:300]}")
    return value
