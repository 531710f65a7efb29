"""
Making, describing and removing databases: one look-alike module per engine.

Each has ``database_settings(server, alias, credential)`` and ``admin_settings(server)``, Django database dictionaries;
and, under ``server_plane``, ``create_database``, ``create_account`` and ``drop_database``, which may be run again.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tenants.provisioning import mysql, sqlite


@dataclass(frozen=True)
class Server:
    """A ``DatabaseServer`` as it was read: using it reads nothing."""

    name: str
    engine: str
    host: str
    port: int | None
    admin_user: str
    sealed_admin_password: str

    @classmethod
    def of(cls, server: Any) -> "Server":
        return cls(**{field: getattr(server, field) for field in cls.__dataclass_fields__})


PROVISIONERS: dict[str, ModuleType] = {"sqlite": sqlite, "mysql": mysql}
