"""A ``save()`` with a switch: what stands in the database follows from which call of several set it."""

from pathlib import Path

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from scans.contrast.commits import ROWS, Combination, CommitOutcome, Interrupted

WAY = "SQLAlchemy, save(row, commit=...)"


class Base(DeclarativeBase):
    pass


class Profile(Base):
    __tablename__ = "profile"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def save(session: Session, row: Profile, commit: bool) -> None:
    session.add(row)
    if commit:
        session.commit()


def run_commits(combination: Combination, directory: Path) -> CommitOutcome:
    """In a database of its own in ``directory``. The session ends as a request's does: whatever is open is undone."""
    engine = create_engine(f"sqlite:///{directory / 'profiles.sqlite3'}")
    try:
        Base.metadata.create_all(engine)
        try:
            with Session(engine) as session:
                for number, (name, commit) in enumerate(zip(ROWS, combination.commits, strict=True)):
                    if number and combination.is_interrupted:
                        raise Interrupted
                    save(session, Profile(name=name), commit)
        except Interrupted:
            pass
        with Session(engine) as session:
            kept = tuple(session.scalars(select(Profile.name).order_by(Profile.id)))
        return CommitOutcome(WAY, combination.label, kept)
    finally:
        engine.dispose()
