"""One file per tenant, mode 0600. There are no accounts: whoever may open files of this user may open them all."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection

HAS_ACCOUNTS = False
REFUSED = UNREACHABLE = ()  # a file has no server that could refuse, or be away
FILE_OF_OURS = re.compile(r"t_[0-9a-f]{32}_g[0-9]+\.sqlite3")


def path_of(alias: str) -> Path:
    return Path(settings.BULKHEAD_HOME) / "tenants" / f"{alias}.sqlite3"


def database_settings(server, alias: str, credential) -> dict[str, Any]:
    return {
        "ENGINE": "tenants.backends.sqlite",
        "NAME": path_of(alias),
        "CONN_MAX_AGE": settings.BULKHEAD_CONNECTION_MAX_AGE,
    }


def admin_settings(server) -> dict[str, Any]:
    """A directory has no administrator's connection: what asks for one fails to open this."""
    return {"ENGINE": "tenants.backends.sqlite", "NAME": Path(settings.BULKHEAD_HOME) / "tenants"}


def create_database(alias: str) -> None:
    create_file(path_of(alias))
    with closing(sqlite3.connect(path_of(alias))) as database:
        database.execute(f"CREATE VIEW IF NOT EXISTS tenant_identity AS SELECT '{alias}' AS identity")


def create_file(path: Path) -> None:
    """An empty database file that only this user may read; one that exists is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")  # stays with the file: readers and a writer side by side


def drop_database(alias: str, users: list[str]) -> None:
    # A journal that outlived its database would be applied to the next one of that name.
    for suffix in ("-wal", "-shm", "-journal", ""):
        path_of(alias).with_name(path_of(alias).name + suffix).unlink(missing_ok=True)


# What check_isolation asks; nothing here changes anything.


def directory_faults() -> Iterator[str]:
    found = (Path(settings.BULKHEAD_HOME) / "tenants").stat()
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
        yield "the directory of tenants' databases is not this user's alone (mode 0700)"


def file_faults(path: Path) -> Iterator[str]:
    """How a database's file, or one beside it, could be opened by others, or is another's."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        try:
            found = file.lstat()
        except FileNotFoundError:
            if not suffix:
                raise
            continue
        if not stat.S_ISREG(found.st_mode):
            yield f"{file.name} is no file but leads elsewhere"
        elif found.st_nlink > 1:
            yield f"{file.name} has {found.st_nlink} names: whoever opens another one opens it"
        if stat.S_IMODE(found.st_mode) & 0o077 and not stat.S_ISLNK(found.st_mode):
            yield f"{file.name} has mode {stat.S_IMODE(found.st_mode):04o}, not 0600"
        if found.st_uid != os.geteuid():
            yield f"{file.name} belongs to user {found.st_uid}"


def orphan_files(aliases: set[str]) -> list[str]:
    """Files that are named like tenants' databases and are none of these."""
    files = (Path(settings.BULKHEAD_HOME) / "tenants").glob("t_*.sqlite3")
    return sorted(file.name for file in files if FILE_OF_OURS.fullmatch(file.name) and file.stem not in aliases)


def identity_faults(alias: str) -> Iterator[str]:
    """Whether its identity is the view that was made. Inside the tenant's binding: there is no administrator here."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT type, sql FROM sqlite_schema WHERE name = 'tenant_identity'")
        if cursor.fetchall() != [("view", f"CREATE VIEW tenant_identity AS SELECT '{alias}' AS identity")]:
            yield f"its tenant_identity is not the view that says {alias}"


def cross_read(handle, neighbour: str | None, control: str | None) -> Iterator[str | None]:
    """For each file that the driver's ``handle`` must not open beside its own: ``None``, or what it did instead."""
    for path in (path_of(neighbour) if neighbour else None, control):
        if path is not None:
            try:
                handle.execute("ATTACH ? AS canary", [f"file:{quote(str(path))}?mode=ro"])
                handle.execute("DETACH canary")
                yield f"its connection can open {Path(path).name}"
            except sqlite3.OperationalError as error:
                yield None if "too many attached databases" in str(error) else f"ATTACH was tried: {error}"
