"""
The lost update: two requests read one row, and change a field each.

Here is what both halves share. Nothing here imports SQLAlchemy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scans.contrast import Statement

BEFORE = {"name": "Shop", "host": "shop.example"}
CHANGES = ({"name": "Web shop"}, {"host": "www.shop.example"})  # the first request's and the second's
WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class EditOutcome:
    """``answers``: what each request was told, ``WRITTEN`` or the error; ``row``: what the database has in the end."""

    way: str
    statements: tuple[Statement, ...]
    answers: tuple[str, ...]
    row: Mapping[str, str]

    @property
    def lost(self) -> tuple[str, ...]:
        """The fields of which a request was told that they are written, and which hold something else."""
        told = zip(CHANGES, self.answers, strict=True)
        written = [change for change, answer in told if answer == WRITTEN]
        return tuple(name for change in written for name, value in change.items() if self.row[name] != value)
