"""
The lost update in SQLAlchemy. A request that keeps its session writes the columns that it changed. One that closes it,
and merges the row into another session later, writes all in which its copy differs from the row as it is then: that of
the other request too, with the value from before.

A ``version_id_col`` is the remedy, and it is SQLAlchemy's own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from scans.contrast import Statement
from scans.contrast.edits import BEFORE, CHANGES, WRITTEN, EditOutcome


class Base(DeclarativeBase):
    pass


class Target(Base):
    __tablename__ = "target"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str]


class VersionedTarget(Base):
    __tablename__ = "versioned_target"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


def merge_into_another_session(engine: Engine, model: type[Any]) -> list[str]:
    rows, answers = [], []
    for change in CHANGES:
        with Session(engine) as session:
            row = session.get_one(model, 1)
        rows.append(_changed(row, change))
    for row in rows:
        with Session(engine) as session:
            answers.append(_told(session, row))
    return answers


def keep_the_session(engine: Engine, model: type[Any]) -> list[str]:
    sessions = [Session(engine) for _ in CHANGES]
    try:
        for session, row in [(session, session.get_one(model, 1)) for session in sessions]:
            _changed(row, CHANGES[sessions.index(session)])
        return [_told(session) for session in sessions]
    finally:
        for session in sessions:
            session.close()


WAYS: dict[str, tuple[Callable[[Engine, type[Any]], list[str]], type[Any]]] = {
    "SQLAlchemy, merged into a second session": (merge_into_another_session, Target),
    "SQLAlchemy, each in the session that it was read in": (keep_the_session, Target),
    "SQLAlchemy, merged into a second session, with a version_id_col": (merge_into_another_session, VersionedTarget),
}


def run_edits(way: str, directory: Path) -> EditOutcome:
    """In a database of its own in ``directory``."""
    edit, model = WAYS[way]
    engine = create_engine(f"sqlite:///{directory / 'targets.sqlite3'}")
    statements: list[Statement] = []

    def record(conn, cursor, sql, parameters, context, executemany) -> None:
        if sql.startswith("UPDATE"):
            statements.append(Statement("targets.sqlite3", sql.replace("?", "{}").format(*map(repr, parameters))))

    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(model(id=1, **BEFORE))
            session.commit()
        event.listen(engine, "before_cursor_execute", record)
        answers = edit(engine, model)
        with Session(engine) as session:
            row = session.get_one(model, 1)
            return EditOutcome(way, tuple(statements), tuple(answers), {name: getattr(row, name) for name in BEFORE})
    finally:
        engine.dispose()


def _changed(row: Any, change: dict[str, str]) -> Any:
    for name, value in change.items():
        setattr(row, name, value)
    return row


def _told(session: Session, merged: Any = None) -> str:
    try:
        if merged is not None:
            session.merge(merged)
        session.commit()
    except StaleDataError as error:
        session.rollback()
        return type(error).__name__
    return WRITTEN
