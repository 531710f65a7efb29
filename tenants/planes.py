"""What a unit of work can be bound to, and what it is bound to now."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS

from tenants.exceptions import NoTenantError, WrongTenantError

Account = Literal["runtime", "migration", "admin"]


class Plane(StrEnum):
    CONTROL = "control"
    TENANT = "tenant"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """A tenant as it was when it was bound. No row: using it reads nothing."""

    id: UUID
    slug: str
    name: str
    state: str
    generation: int
    limits: Mapping[str, int] = field(hash=False)

    def __str__(self) -> str:
        return self.slug


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """
    What is bound, with all that work in it needs of the control plane, so that opening a connection reads nothing.

    ``database`` is a complete Django database dictionary; ``record`` is the registry's entry of a tenant; ``outer`` is
    what was bound before and comes back. Of a tenant, ``operators`` are those who may act in it, and ``halts`` the
    kinds of work that are not begun there.
    """

    plane: Plane
    alias: str
    account: Account
    database: Mapping[str, Any]
    record: Any = None
    operators: frozenset[UUID] = frozenset()
    halts: frozenset[str] = frozenset()
    outer: "Bound | None" = None
    after_unbind: list[Callable[[], object]] = field(default_factory=list)
    facets: ExitStack | None = None  # what tenants.facets has entered

    def __str__(self) -> str:
        return f"tenant {self.record.snapshot.slug!r}" if self.record else f"{self.plane} plane"


# A ContextVar, because threading.local loses or mixes tenants under async: docs/adr/0001-contextvar.md
_bound: ContextVar[Bound | None] = ContextVar("bulkhead_bound", default=None)
current = _bound.get


def here() -> str | None:
    """The alias of what is bound, to remember where something was made."""
    bound = _bound.get()
    return None if bound is None else bound.alias


def require_bound() -> Bound:
    """Raises ``NoTenantError`` when nothing is bound."""
    bound = _bound.get()
    if bound is None:
        raise NoTenantError(
            "No tenant and no plane is bound here, so there is no database. "
            "Wrap this work in tenant_context(...) or control_plane()."
        )
    return bound


def real_alias(alias: str) -> str:
    """``alias`` if it is the bound plane's, with ``default`` resolved; otherwise an error. There is no way around."""
    bound = require_bound()
    if alias not in (DEFAULT_DB_ALIAS, bound.alias):
        raise WrongTenantError(f"Database {alias!r} was asked for, but {bound} is bound ({bound.alias}).")
    return bound.alias


def is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
