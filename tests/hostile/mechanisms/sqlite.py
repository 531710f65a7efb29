"""SQL and files on SQLite"""

import os
import sqlite3
from contextlib import closing

from django.db import OperationalError, connection

from tests.hostile.mechanism import DEFACE, OPEN, READ, Verdict, mechanism, read
from tests.hostile.mechanisms.aliases import FILES

LIMIT = Verdict("connection", "OperationalError")


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def with_a_handle_of_its_own(sql):
    """The statement itself works, on a connection that has no limits."""

    def control(aim):
        aim.path.with_name(f"{aim.path.name}.vacuum").unlink(missing_ok=True)
        with closing(sqlite3.connect(aim.path)) as handle:
            got = [handle.execute(each.format(path=aim.path)).fetchall() for each in sql]
            handle.rollback()
            return [*got, handle.execute(READ).fetchall()]

    return control


@mechanism(
    "ATTACH",
    sqlite=LIMIT,
    control=with_a_handle_of_its_own(["ATTACH '{path}' AS other", "SELECT name FROM other.auth_group"]),
)
def attach(aim):
    """`ATTACH DATABASE '<the other's file>' AS other`."""
    execute(f"ATTACH DATABASE '{aim.path}' AS other")
    return execute("SELECT name FROM other.auth_group")


@mechanism("VACUUM INTO", sqlite=LIMIT, control=with_a_handle_of_its_own(["VACUUM INTO '{path}.vacuum'"]))
def vacuum_into(aim):
    """`VACUUM INTO '<a file where the other's backups are>'`."""
    execute(f"VACUUM INTO '{aim.path}.copy'")


@mechanism("load_extension()", sqlite=LIMIT, control=lambda aim: read(connection.cursor()))
def load_extension(aim):
    """`SELECT load_extension(...)`."""
    return execute(f"SELECT load_extension('{aim.path}')")


@mechanism(
    "two statements in one",
    sqlite=Verdict("connection", "ProgrammingError"),
    control=lambda aim: read(connection.cursor()),
)
def stacked(aim):
    """`SELECT 1; ATTACH ...`."""
    return execute(f"SELECT 1; ATTACH DATABASE '{aim.path}' AS other")


def with_a_script(aim):
    cursor = connection.cursor()
    cursor.executescript("SELECT 1; SELECT 2")
    return read(cursor)


@mechanism("executescript()", sqlite=LIMIT, control=with_a_script)
def script(aim):
    """The driver's own `executescript()`, by way of a guarded cursor."""
    connection.cursor().executescript(f"ATTACH DATABASE '{aim.path}' AS other")


@mechanism(
    "a file: name in SQL",
    sqlite=LIMIT,
    control=with_a_handle_of_its_own(["ATTACH '{path}' AS other", "SELECT name FROM other.auth_group"]),
)
def uri(aim):
    """`ATTACH 'file:...?mode=ro&immutable=1'`."""
    execute(f"ATTACH DATABASE 'file:{aim.path}?mode=ro&immutable=1' AS other")
    return execute("SELECT name FROM other.auth_group")


@mechanism("PRAGMA that names files", sqlite=Verdict("connection"), control=lambda aim: read(connection.cursor()))
def pragma(aim):
    """`PRAGMA database_list` names the own file; nothing in SQL opens those beside it."""
    return [os.path.basename(row[2]) for row in execute("PRAGMA database_list")], execute("SELECT 1")


@mechanism("ATTACH after lifting the limit", sqlite=OPEN, outer=FILES)
def attach_without_limit(aim):
    """`connection.connection.setlimit(...)`, and then `ATTACH`."""
    connection.ensure_connection()
    connection.connection.set_authorizer(None)
    connection.connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 5)
    execute(f"ATTACH DATABASE '{aim.path}' AS other")
    return execute("SELECT name FROM other.auth_group")


@mechanism("the driver's handle", sqlite=OPEN, outer=FILES)
def driver(aim):
    """`sqlite3.connect(<the other's file>)`."""
    with closing(sqlite3.connect(aim.path)) as handle:
        return handle.execute(READ).fetchall()


@mechanism("a write by the driver", sqlite=OPEN, outer=FILES, writes=True)
def driver_write(aim):
    """The same, with an `UPDATE`."""
    with closing(sqlite3.connect(aim.path, timeout=10)) as handle, handle:
        handle.execute(DEFACE)


@mechanism("the file's bytes", sqlite=OPEN, outer=FILES)
def file_bytes(aim):
    """`open(<the other's file>, "rb").read()`."""
    for path in (aim.path, aim.path.with_name(aim.path.name + "-wal")):
        content = path.read_bytes() if path.exists() else b""
        if (start := content.find(b"canary of")) >= 0:
            return content[start : start + 80]
    raise OperationalError("no canary")


@mechanism("the backup API", sqlite=OPEN, outer=FILES)
def backup(aim):
    """`Connection.backup()` of the other's file into memory."""
    with closing(sqlite3.connect(aim.path)) as handle, closing(sqlite3.connect(":memory:")) as copy:
        handle.backup(copy)
        return copy.execute(READ).fetchall()
