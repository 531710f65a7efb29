"""On whose behalf this unit of work runs, for the record alone: no right is ever judged by it."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from tenants.accounts.addresses import address_of
from tenants.planes import require_bound
from tenants.request_ids import request_id


class Provenance(NamedTuple):
    actor_id: str
    actor: str
    via: str
    address: str
    request_id: str


class _Acting(NamedTuple):
    via: str
    request: object = None


_acting: ContextVar[_Acting | None] = ContextVar("bulkhead_acting", default=None)


@contextmanager
def acting(via: str, request=None) -> Iterator[None]:
    token = _acting.set(_Acting(via, request))
    try:
        yield
    finally:
        _acting.reset(token)


def provenance(actor=None) -> Provenance:
    """``actor``: the user, where the request does not know them yet."""
    now = _acting.get()
    if now is None:  # Django's own commands, a shell
        now = _Acting("command")
    if now.request is None:
        name = "" if now.via.startswith("job") else f"{_system_user()} (operating system)"
        return Provenance("", name[:100], now.via[:80], "", "")
    user = actor if actor is not None else getattr(now.request, "user", None)
    return Provenance(*_who(user), _door(now.request)[:80], address_of(now.request), request_id.get())


def _who(user) -> tuple[str, str]:
    if user is None or not user.is_authenticated:
        return "", ""
    is_of_here = user._state.db == require_bound().alias
    return str(user.pk), user.get_username() if is_of_here else f"operator {user.get_username()}"


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, whose user has no name
        return f"uid {os.getuid()}"


def _door(request) -> str:
    claims = getattr(request, "claims", None)
    if claims is None:
        return "session"
    return f"API key {claims['api_key']}" if "api_key" in claims else "token"
