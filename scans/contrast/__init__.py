"""
One sweep of two tenants' task queues, done the usual SQLAlchemy way and done this system's way.

Here is what both halves share. Nothing here imports SQLAlchemy or Flask: they are the extra ``contrast``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class QueueRow:
    queue_id: int
    task_id: int


@dataclass(frozen=True, slots=True)
class Sent:
    tenant: str
    queue_id: int
    task_id: int


@dataclass(frozen=True, slots=True)
class WrongSend:
    """``held`` is the task that the tenant's own queue has under this id, ``None`` if it has no such row."""

    tenant: str
    queue_id: int
    sent: int
    held: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    """``database`` is the file name of the engine that sent it; ``sql`` is verbatim, line breaks included."""

    database: str
    sql: str


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    sent: tuple[Sent, ...]
    statements: tuple[Statement, ...]
    wrong: tuple[WrongSend, ...]


Keep = Literal["list", "loop variable", "nothing"]
Queues = Mapping[str, Sequence[QueueRow]]

# Swept in this order. Only id 41 is in both queues, and it is the last one of the tenant swept first.
QUEUES: Queues = {
    "globex": (QueueRow(33, 113), QueueRow(37, 117), QueueRow(41, 121)),
    "acme": (QueueRow(34, 31), QueueRow(39, 36), QueueRow(41, 38), QueueRow(46, 43)),
}


def find_wrong_sends(sent: Iterable[Sent], queues: Queues) -> tuple[WrongSend, ...]:
    """Compare each task sent for a tenant with the one in that tenant's queue. A row never sent is not looked for."""
    held = {(tenant, row.queue_id): row.task_id for tenant, rows in queues.items() for row in rows}
    wrong = []
    for one in sent:
        own = held.get((one.tenant, one.queue_id))
        if one.task_id != own:
            wrong.append(WrongSend(one.tenant, one.queue_id, sent=one.task_id, held=own))
    return tuple(wrong)
