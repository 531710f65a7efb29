"""
Dispatchers that look into every tenant's outbox, send one message of each, and sleep for a second.

    python -m benchmarks.dispatching.sweeping django|sqlalchemy

Up to ``KEPT`` tenants they keep their connections; of more they close each, as no server has room for all.
"""

import fcntl
import os
import sys
import time

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from redis import Redis  # noqa: E402
from rq import Queue  # noqa: E402
from sqlalchemy import URL, String, create_engine, select  # noqa: E402
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column  # noqa: E402
from sqlalchemy.pool import NullPool  # noqa: E402

from benchmarks.dispatching.starts import note  # noqa: E402
from benchmarks.isolation.rows.models import Outbox  # noqa: E402

KEPT = 1000
ALIASES = [alias for alias in settings.DATABASES if alias != "default"]
ARE_KEPT = len(ALIASES) <= KEPT


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows_outbox"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    message: Mapped[str] = mapped_column(String)
    is_sent: Mapped[bool]


def with_django(queue):
    for alias in ALIASES:
        for row in Outbox.objects.using(alias).filter(is_sent=False).order_by("id")[:1]:
            queue.enqueue(note, row.message)
            row.is_sent = True
            row.save(update_fields=["is_sent"])
        if not ARE_KEPT:
            connections[alias].close()


def engine_of(alias):
    database = settings.DATABASES[alias]
    pool = {} if ARE_KEPT else {"poolclass": NullPool}
    if database["ENGINE"].endswith("sqlite3"):
        return create_engine(URL.create("sqlite", database=database["NAME"]), **pool)
    address = {"username": database["USER"], "password": database["PASSWORD"]}
    address |= {"host": database["HOST"], "port": database["PORT"], "database": database["NAME"]}
    return create_engine(URL.create("mysql+mysqldb", **address), **pool)


def with_sqlalchemy(queue, engines):
    for engine in engines:
        with Session(engine) as session:
            for row in session.scalars(select(Row).filter_by(is_sent=False).order_by(Row.id).limit(1)):
                queue.enqueue(note, row.message)
                row.is_sent = True
            session.commit()


def main(library):
    queue = Queue(library, connection=Redis.from_url(os.environ["REDIS_URL"]))
    engines = [engine_of(alias) for alias in ALIASES] if library == "sqlalchemy" else []
    while True:
        with open(os.environ["BENCHMARK_STARTS"] + library, "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # who measures has it while it is another's turn
            with_sqlalchemy(queue, engines) if engines else with_django(queue)
        time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
