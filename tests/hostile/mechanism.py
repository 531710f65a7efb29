"""What a mechanism of hostile code is, what it is aimed at, and the list that each is entered into."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from tenants.context import control_plane, tenant_context
from tenants.planes import Plane

READ = "SELECT name FROM auth_group"
DEFACE = "UPDATE auth_group SET name = 'defaced'"
DOORS = ("view", "job", "command")


@dataclass(frozen=True)
class Verdict:
    """
    Which ring stops a mechanism, with the error that it meets: an exception's name, or the number of the server's.
    Without an error it runs, and reaches its own tenant alone.
    """

    ring: str
    error: str = ""

    def __str__(self) -> str:
        if not self.ring:
            return "**not stopped**"
        return f"{self.ring}: {f'`{self.error}`' if self.error else 'own rows only'}"

    def is_met_by(self, outcome: dict) -> bool:
        met = {outcome["error"], str(outcome["code"])} if "error" in outcome else {""}
        return bool(met & set(self.error.split(" or ")))


OPEN = Verdict("")
ROUTER = Verdict("router", "WrongTenantError")
ORM = Verdict("ORM", "WrongTenantError")
CONNECTION = Verdict("connection", "WrongTenantError")
BINDING = Verdict("binding", "WrongTenantError")
UNBOUND = Verdict("binding", "NoTenantError")


@dataclass
class Aim:
    """
    A tenant, or control, as an attacker who knows everything but its secrets knows it. ``kept`` is what the mechanism
    kept from work that was rightly done there before; ``loot`` takes what it gets hold of after its own work has ended.
    """

    slug: str | None
    id: str
    alias: str
    database: str
    path: Path
    kept: Any = None
    loot: list = field(default_factory=list)

    def bind(self):
        return tenant_context(self.slug) if self.slug else control_plane()

    @property
    def uuid(self) -> UUID:
        return UUID(self.id)

    @property
    def database_settings(self) -> dict[str, Any]:
        """Those of the own tenant, with this one's place in them: account and password stay the own ones."""
        mine = connection.settings_dict
        return mine | {"NAME": self.path if connection.vendor == "sqlite" else self.database}

    @property
    def plane(self) -> Plane:
        return Plane.TENANT if self.slug else Plane.CONTROL


@dataclass(frozen=True)
class Mechanism:
    name: str
    page: str
    attack: Callable[[Aim], Any]
    verdicts: dict[str, Verdict]
    keep: Callable[[Aim], Any] | None = None
    # Run in place of the attack on the own tenant, where a guard refuses that too.
    control: Callable[[Aim], Any] | None = None
    control_door: str = ""  # where it is another than the first
    # The same, as the server's administrator: statements that work, and those that undo them.
    by_admin: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    writes: bool = False
    aims: tuple[str, ...] = ("globex", "control")
    doors: tuple[str, ...] = DOORS
    later: bool = False  # other work comes after it in the same process
    has_neighbour: bool = False  # another thread is in the middle of other work
    sign: str = ""  # what in its result shows that it worked, where that is no canary
    tells_control: bool = False  # the own tenant goes into maintenance
    outer: str = ""

    @property
    def says(self) -> str:
        return " ".join((self.attack.__doc__ or "").split())


MECHANISMS: dict[str, Mechanism] = {}


def mechanism(name: str, both: Verdict | None = None, *, sqlite=None, mysql=None, **options):
    """Enters the decorated attack, whose docstring is what the public list says of it, into the list."""
    verdicts = {"sqlite": sqlite or both, "mysql": mysql or both}
    verdicts = {engine: verdict for engine, verdict in verdicts.items() if verdict is not None}

    def enter(attack):
        assert name not in MECHANISMS and attack.__doc__, name
        assert bool(options.get("outer")) == (OPEN in verdicts.values()), name
        page = attack.__module__.rpartition(".")[2]
        MECHANISMS[name] = Mechanism(name, page, attack, verdicts, **options)
        return attack

    return enter


def read(cursor) -> list[str]:
    """The canaries that a cursor sees."""
    cursor.execute(READ)
    return [name for (name,) in cursor.fetchall()]
