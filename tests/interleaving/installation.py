"""Sixteen tenants with the same keys, made by the product's own code on servers of this process."""

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tenants.embedded import MariaDB, Redis

SETTINGS = {"bulkhead": "tests.interleaving.settings", "naive": "tests.interleaving.naive_settings"}
SETTINGS["naive-contextvar"] = SETTINGS["naive"]
_memory = Path("/dev/shm")


@contextmanager
def scratch() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="bulkhead-machine-", dir=_memory if os.access(_memory, os.W_OK) else None))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def new(engine: str, stack: str = "bulkhead") -> Iterator[tuple[Any, Any]]:
    """The stack and its databases at rest. Once in a process: it sets Django up."""
    with ExitStack() as servers:
        home = servers.enter_context(scratch())
        environment = {"BULKHEAD_HOME": str(home), "DJANGO_SETTINGS_MODULE": SETTINGS[stack]}
        if stack == "naive-contextvar":
            environment["NAIVE_PER_CONTEXT"] = "yes"
        login: dict[str, Any] = {}
        if stack == "bulkhead":
            environment["REDIS_URL"] = servers.enter_context(Redis(home)).url
        if engine == "mysql":
            server = servers.enter_context(MariaDB(home))
            login = {"host": server.host, "port": server.port, "user": server.user, "passwd": server.password}
            environment["DATABASE_URL"] = _control_on(login)
        _set_up(environment)
        yield _make(stack, engine, home, login, environment)


def _control_on(login: dict[str, Any]) -> str:
    import MySQLdb

    admin = MySQLdb.connect(**login, autocommit=True)
    for statement in (
        "CREATE DATABASE control_plane COLLATE utf8mb4_unicode_ci",
        f"CREATE USER control@`%` IDENTIFIED BY 'control-{login['passwd']}'",
        r"GRANT ALL ON `control\_plane`.* TO control@`%`",
    ):
        admin.query(statement)
    admin.close()
    return f"mysql://control:control-{login['passwd']}@{login['host']}:{login['port']}/control_plane"


def _set_up(environment: dict[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith("BULKHEAD_") or name.removesuffix("_FILE") in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
            del os.environ[name]
    os.environ |= environment
    import django

    django.setup()
    from django.test.utils import setup_test_environment

    setup_test_environment(debug=False)


def _make(stack: str, engine: str, home: Path, login: dict[str, Any], environment: dict[str, str]) -> tuple[Any, Any]:
    if stack != "bulkhead":
        from tests.interleaving import naive

        return naive.make(home)
    from django.core.management import call_command

    from tenants import services
    from tenants.context import control_plane
    from tests.interleaving.stacks import TENANTS, slug

    services.prepare_home()
    with control_plane():
        call_command("migrate", verbosity=0)
    if engine == "mysql":
        services.add_database_server(
            name="maria",
            host=login["host"],
            port=login["port"],
            admin_user=login["user"],
            admin_password=login["passwd"],
        )
    aliases = {tenant: services.create_tenant(slug=slug(tenant)).alias for tenant in range(TENANTS)}
    made, rest = _stack_and_rest(engine, home, login, aliases)
    _seed(made, rest)
    described = {"engine": engine, "login": login, "aliases": aliases, "environment": environment}
    (home / "installation.json").write_text(json.dumps(described))
    (home / "kept.pickle").write_bytes(pickle.dumps(rest.kept))
    return made, rest


def _stack_and_rest(engine: str, home: Path, login: dict[str, Any], aliases: dict[int, str]) -> tuple[Any, Any]:
    from tenants.provisioning.sqlite import path_of
    from tests.interleaving.rest import MySQLRest, SQLiteRest
    from tests.interleaving.stacks import Bulkhead

    if engine == "mysql":
        return Bulkhead(aliases), MySQLRest({**aliases, None: "control_plane"}, **login)
    paths: dict[int | None, Path] = {tenant: path_of(alias) for tenant, alias in aliases.items()}
    return Bulkhead(aliases), SQLiteRest({**paths, None: home / "control.sqlite3"})


def _seed(stack: Any, rest: Any) -> None:
    from tests.interleaving.ledger import seed
    from tests.interleaving.stacks import TENANTS

    for tenant in range(TENANTS):
        with stack.bind(tenant):
            seed(tenant)
    stack.let_go()
    rest.keep(TENANTS)


def existing(home: Path) -> tuple[Any, Any]:
    """The installation that another process has made and keeps running; for the code that stands here."""
    described = json.loads((home / "installation.json").read_text())
    _set_up(described["environment"] | {"BULKHEAD_HOME": str(home)})
    aliases = {int(tenant): alias for tenant, alias in described["aliases"].items()}
    stack, rest = _stack_and_rest(described["engine"], home, described["login"], aliases)
    rest.kept = pickle.loads((home / "kept.pickle").read_bytes())
    rest.tables(0)
    return stack, rest
