"""What Django keeps beyond a binding: for how many tenants, and for whom."""

from collections import OrderedDict
from contextlib import suppress
from functools import wraps
from typing import Any, cast

from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.base import SessionBase

from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.planes import current, here

CONTENT_TYPES_OF = 256  # databases; about 5 KB each


class RecentlyUsed:
    """
    As much of a dictionary as ``ContentTypeManager`` uses for its cache, with the least recently used entries dropped.

    Without a lock, which a fork could leave held: each step is one operation of a dictionary, and what another thread
    did in between is allowed for.
    """

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._entries: OrderedDict[str, Any] = OrderedDict()

    def __getitem__(self, key):
        value = self._entries[key]
        self._touch(key)
        return value

    def setdefault(self, key, default):
        value = self._entries.setdefault(key, default)
        self._touch(key)
        while len(self._entries) > self._capacity:
            with suppress(KeyError):
                self._entries.popitem(last=False)
        return value

    def _touch(self, key) -> None:
        with suppress(KeyError):  # dropped by another thread just now
            self._entries.move_to_end(key)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


def require_here(origin: str | None, what: str) -> None:
    """Raises ``NoTenantError`` or ``WrongTenantError`` unless what was bound at ``origin`` is bound now."""
    if here() == origin:
        return
    if current() is None:
        raise NoTenantError(f"{what} {origin} was used where nothing is bound.")
    raise WrongTenantError(f"{what} {origin or 'no plane'} was used where {current()} is bound.")


def _stamped(init):
    @wraps(init)
    def stamping(self, *args, **kwargs):
        self._made_in = here()
        init(self, *args, **kwargs)

    return stamping


def _of_here(method):
    @wraps(method)
    def checked(self, *args, **kwargs):
        require_here(self._made_in, "A session of")
        return method(self, *args, **kwargs)

    return checked


def install() -> None:
    cache = RecentlyUsed(CONTENT_TYPES_OF)
    for manager in (*ContentType._meta.local_managers, *ContentType._meta.managers):
        cast(Any, manager)._cache = cache
    # A request that is kept looks up its user through its session: another tenant may have one with that key.
    session = cast(Any, SessionBase)
    session.__init__ = _stamped(session.__init__)
    for name in ("_get_session", "_aget_session", "clear"):
        setattr(session, name, _of_here(getattr(session, name)))
    session._session = property(session._get_session)
