"""Who asks: a member of each tenant, with what they hold, and the ids that they have seen in answers."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import requests
from django.contrib.auth import get_user_model

from tenants.context import tenant_context
from tests.routes.asking import BODIES, KINDS, UUID
from tests.routes.world import CANARIES, World

PERSONAS = {"acme": "owner", "globex": "twin"}  # with the same key, name and password
TIMEOUT = 120  # seconds: what hangs fails, and what is slow does not


class Member:
    def __init__(self, slug: str, world: World, url: str):
        self.slug, self.world, self.url = slug, world, url
        self.persona, self.canary = PERSONAS[slug], CANARIES[slug]
        self.http = requests.Session()
        self.http.trust_env = False
        self.ids: dict[str, list[str]] = defaultdict(list)  # by the segment of a path that they stand behind
        for segment, kind in KINDS.items():
            if kind in world.ids[slug]:
                self.ids[segment].append(world.ids[slug][kind])
        self.revive()

    def revive(self) -> None:
        """Whatever they have done to their own account: an active owner again, with a log-in of now."""
        user = self.world.users[self.persona]
        with tenant_context(self.slug):
            mine = get_user_model().objects.filter(pk=user.pk)
            mine.update(role="owner", is_active=True, username=user.username, password=user.password)
        self.token = self.world.new_tokens(self.persona)["access"]

    def send(self, prepared: dict[str, Any]) -> requests.Response | None:
        """On a connection of its own: the server may close one that is kept just when it is used again."""
        headers = {**prepared["headers"], "Authorization": f"Bearer {self.token}", "Connection": "close"}
        try:
            return self.http.request(**prepared | {"headers": headers}, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException:
            return None

    def learn(self, path: str, answer: requests.Response) -> None:
        """``/api/v1/targets/`` and ``/api/v1/targets/{id}/`` show ids of targets."""
        segments = [each for each in path.split("/") if each and "{" not in each]
        try:
            shown = answer.json()
        except ValueError:
            return
        rows = shown.get("results", [shown]) if isinstance(shown, dict) else []
        for row in rows if isinstance(rows, list) else []:
            pk = row.get("id") if isinstance(row, dict) else None
            if isinstance(pk, str) and UUID.fullmatch(pk) and pk not in self.ids[segments[-1]]:
                self.ids[segments[-1]].append(pk)

    def ids_for(self, name: str) -> list[str]:
        """Of a segment (``targets``), or of the member of a body that refers to one (``target``)."""
        return self.ids.get(name) or next((ids for each, ids in self.ids.items() if each.startswith(name)), [])

    def all_ids(self) -> set[str]:
        return {pk for ids in self.ids.values() for pk in ids}


class OwnWorld:
    """The routes' world as a member of either tenant sees it: what it calls acme's and the owner's is theirs."""

    def __init__(self, member: Member):
        self._member, self._world = member, member.world
        self.ids = member.world.ids | {"acme": member.world.ids[member.slug]}
        self.canary = member.canary

    def new_tokens(self, persona: str) -> dict[str, str]:
        return self._world.new_tokens(self._member.persona)

    def version(self, plane: str, kind: str) -> int:
        return self._world.version(self._member.slug if plane == "acme" else plane, kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


def shape(path: str) -> str:
    """``/api/v1/targets/{}/``, as a route's name and as the schema's path."""
    return re.sub(r"<[^>]*>|{[^}]*}", "{}", path)


EXAMPLES: dict[str, Callable] = {shape(name): make for name, make in BODIES.items() if name.startswith("/api/")}


def example_of(path: str, member: Member, more: dict[str, Callable]) -> dict[str, Any] | None:
    """A body that succeeds, as tests/routes has it, in the member's own tenant."""
    make = (EXAMPLES | more).get(shape(path))
    return make and {name: member.slug if value == "acme" else value for name, value in make(OwnWorld(member)).items()}
