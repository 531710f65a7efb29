"""The list: one module per page of it, each of look-alike entries."""

from tests.hostile.mechanism import MECHANISMS
from tests.hostile.mechanisms import (  # noqa: F401  each enters its own
    aliases,
    ambient,
    bindings,
    concurrency,
    guards,
    mariadb,
    memory,
    objects,
    orm,
    secrets,
    server,
    sqlite,
)

PAGES = {
    "aliases": aliases,
    "orm": orm,
    "objects": objects,
    "bindings": bindings,
    "concurrency": concurrency,
    "sqlite": sqlite,
    "mariadb": mariadb,
    "server": server,
    "memory": memory,
    "ambient": ambient,
    "guards": guards,
    "secrets": secrets,
}

__all__ = ["MECHANISMS", "PAGES"]
