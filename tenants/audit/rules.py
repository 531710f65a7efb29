"""Which models are audited. Apart from what writes the audit, so that any models module may say so of its own."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from django.db.models import Model

M = TypeVar("M", bound=type[Model])


class Rules(NamedTuple):
    secret: frozenset[str]
    unrecorded: frozenset[str]


AUDITED: dict[type[Model], Rules] = {}


def audited(*, secret: tuple[str, ...] = (), unrecorded: tuple[str, ...] = ()) -> Callable[[M], M]:
    """
    Every row that is made, changed or deleted is recorded in the same transaction, field by field; of ``secret`` fields
    only that they changed. What changes ``unrecorded`` fields alone, a clock's hand for one, is not an event.

    Whatever would write such rows without a record is refused with ``UnrecordedWriteError``.
    """

    def register(model: M) -> M:
        AUDITED[model] = Rules(frozenset(secret), frozenset(unrecorded))
        return model

    return register
