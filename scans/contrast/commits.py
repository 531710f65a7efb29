"""
Two rows are saved one after the other: which of them are there afterwards?

In SQLAlchemy that is said by whoever commits; many services give their ``save()`` a switch for it. Django has none:
what belongs together stands in one ``atomic()``. Nothing here imports SQLAlchemy.
"""

from dataclasses import dataclass

ROWS = ("first", "second")


class Interrupted(Exception):
    """The failure between the two."""


@dataclass(frozen=True, slots=True)
class Combination:
    label: str
    commits: tuple[bool, bool]
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    way: str
    combination: str
    kept: tuple[str, ...]
    error: str = ""

    @property
    def is_half(self) -> bool:
        return len(self.kept) == 1


COMBINATIONS = (
    Combination("commit=False, commit=True", (False, True)),
    Combination("commit=False, commit=False", (False, False)),
    Combination("commit=True, commit=False", (True, False)),
    Combination("commit=True, a failure, commit=True", (True, True), is_interrupted=True),
)
