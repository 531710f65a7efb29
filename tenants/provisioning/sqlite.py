"""One file per tenant, mode 0600. There are no accounts: whoever may open files of this user may open them all."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings

HAS_ACCOUNTS = False


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
    with closing(sqlite3.connect(path_of(alias))) as connection:
        connection.execute(f"CREATE VIEW IF NOT EXISTS tenant_identity AS SELECT '{alias}' AS identity")


def create_file(path: Path) -> None:
    """An empty database file that only this user may read; one that exists is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # stays with the file: readers and a writer side by side


def drop_database(alias: str, users: list[str]) -> None:
    # A journal that outlived its database would be applied to the next one of that name.
    for suffix in ("-wal", "-shm", "-journal", ""):
        path_of(alias).with_name(path_of(alias).name + suffix).unlink(missing_ok=True)
