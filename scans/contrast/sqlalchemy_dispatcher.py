"""
A dispatcher as many Flask services have it: one session, whose engine follows the current tenant.

``TenantSession.get_bind`` sends every statement to the right tenant's database, and every statement does go there.
The rows that come back are then looked up in the session's identity map, whose key is (class, primary key) and knows
no tenant. If another tenant's object with the same primary key is still alive, the session returns that object and
throws the new row away: the right query, the right database, the wrong customer's task.

The map holds its objects weakly, so the outcome hangs on which Python variables happen to be alive when the next
tenant's rows are loaded. The three sweeps below differ in nothing else. None of them needs the garbage collector:
loaded objects are in no reference cycle, so CPython frees them with their last reference.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scans.contrast import Keep, Queues, Sent, Statement, SweepOutcome, find_wrong_sends

try:
    from flask import Flask, g
    from flask_sqlalchemy import SQLAlchemy
    from flask_sqlalchemy.session import Session
    from sqlalchemy import URL, Connection, Engine, ScalarResult, event, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"The SQLAlchemy half of the contrast needs the extra 'contrast' ({error.name} is missing). "
        "Install it in the project's directory: pip install -e '.[contrast]'",
        name=error.name,
    ) from error


class Base(DeclarativeBase):
    pass


class TenantSession(Session):
    def get_bind(self, *args: Any, **kwargs: Any) -> Engine:
        return db.engines[g.enterprise_id]


db = SQLAlchemy(model_class=Base, session_options={"class_": TenantSession})


class TaskQueue(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int]
    handled: Mapped[bool] = mapped_column(default=False)


def read_queue() -> ScalarResult[TaskQueue]:
    return db.session.scalars(select(TaskQueue).filter_by(handled=False).order_by(TaskQueue.id))


def send(task: TaskQueue, outbox: list[Sent]) -> None:
    outbox.append(Sent(g.enterprise_id, task.id, task.task_id))


def sweep_keeping_list(tenants: Iterable[str], outbox: list[Sent]) -> None:
    for tenant in tenants:
        g.enterprise_id = tenant
        tasks = read_queue().all()  # while this reads the next queue, `tasks` is still the last one
        for task in tasks:
            send(task, outbox)


def sweep_keeping_loop_variable(tenants: Iterable[str], outbox: list[Sent]) -> None:
    for tenant in tenants:
        g.enterprise_id = tenant
        for task in read_queue():  # a loop variable outlives its loop
            send(task, outbox)


def sweep_keeping_nothing(tenants: Iterable[str], outbox: list[Sent]) -> None:
    for tenant in tenants:
        sweep_tenant(tenant, outbox)


def sweep_tenant(tenant: str, outbox: list[Sent]) -> None:
    g.enterprise_id = tenant
    for task in read_queue():
        send(task, outbox)


SWEEPS: dict[Keep, Callable[[Iterable[str], list[Sent]], None]] = {
    "list": sweep_keeping_list,
    "loop variable": sweep_keeping_loop_variable,
    "nothing": sweep_keeping_nothing,
}


def run_sweep(keep: Keep, directory: Path, queues: Queues) -> SweepOutcome:
    """
    Write each queue to a database ``<tenant>.sqlite3`` in ``directory`` and sweep the tenants once, in their order.

    The files stay, closed; ``FileExistsError`` if one was there before, as the sweep writes to no file but its own.
    """
    sweep = SWEEPS[keep]
    app = create_app(directory.resolve(), queues)
    outbox: list[Sent] = []
    statements: list[Statement] = []

    def record(conn: Connection, _cursor: Any, sql: str, *_: Any) -> None:
        statements.append(Statement(Path(conn.engine.url.database or "").name, sql))

    with app.app_context():
        engines = db.engines.values()
    try:
        write_queues(app, queues)
        for engine in engines:
            event.listen(engine, "before_cursor_execute", record)
        with app.app_context():  # one context is one scoped session
            sweep(queues, outbox)
    finally:
        for engine in engines:
            engine.dispose()
    return SweepOutcome(tuple(outbox), tuple(statements), find_wrong_sends(outbox, queues))


def create_app(directory: Path, tenants: Iterable[str]) -> Flask:
    files = {tenant: directory / f"{tenant}.sqlite3" for tenant in tenants}
    for file in files.values():
        file.touch(mode=0o600, exist_ok=False)
    app = Flask(__name__, instance_path=str(directory))
    app.config["SQLALCHEMY_BINDS"] = {t: URL.create("sqlite", database=str(file)) for t, file in files.items()}
    db.init_app(app)
    return app


def write_queues(app: Flask, queues: Queues) -> None:
    for tenant, rows in queues.items():
        with app.app_context():  # a context, hence a session, for each tenant: which is the remedy
            g.enterprise_id = tenant
            db.metadata.create_all(db.engines[tenant])
            db.session.add_all(TaskQueue(id=row.queue_id, task_id=row.task_id) for row in rows)
            db.session.commit()
