"""How a plane is bound and released. The public names are in ``tenants.context``."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from tenants import connections
from tenants.exceptions import WrongTenantError
from tenants.planes import Bound, Plane, _bound, current

logger = logging.getLogger(__name__)


def is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Binding:
    """
    A plane for the length of one ``with`` or ``async with`` block; used once.

    ``is_bound`` tells whether what is bound already is the plane asked for (then nothing changes); ``resolve`` finds
    the plane, and may read control to do so. It runs before anything is bound.
    """

    def __init__(self, what: str, is_bound: Callable[[Bound], bool], resolve: Callable[[], Bound]):
        self._what = what
        self._is_bound = is_bound
        self._resolve = resolve
        self._mine: Bound | None = None
        self._token: Any = None

    def __enter__(self):
        if (outer := self._outer()) is None:
            outer = self._bind(self._resolve())
        return outer.record.snapshot if outer.record else None

    async def __aenter__(self):
        if (outer := self._outer()) is None:
            outer = self._bind(await sync_to_async(self._resolve)())
        return outer.record.snapshot if outer.record else None

    def __exit__(self, kind, error, traceback):
        if (mine := self._release(kind)) is not None:
            _run_hooks(mine)

    async def __aexit__(self, kind, error, traceback):
        if (mine := self._release(kind)) is not None and mine.after_unbind:
            await sync_to_async(_run_hooks)(mine)

    def _outer(self) -> Bound | None:
        """The plane that is bound already when it is the one asked for; ``None`` when this binding may go ahead."""
        outer = current()
        if outer is None or self._is_bound(outer):
            return outer
        if outer.plane is not Plane.CONTROL:
            raise WrongTenantError(
                f"{self._what} cannot be bound inside {outer}: work that could hop from one plane to another halfway "
                "is not allowed. End the outer block first."
            )
        if connections.is_in_transaction(outer):
            raise WrongTenantError(f"{self._what} cannot be bound inside an open transaction of the control plane.")
        return None

    def _bind(self, bound: Bound) -> Bound:
        self._mine = bound
        self._token = _bound.set(bound)
        connections.after_bind(bound)
        return bound

    def _release(self, kind) -> Bound | None:
        mine, self._mine = self._mine, None
        if mine is None:
            return None
        if current() is not mine:
            # A generator or task was closed by somebody else, who has a binding of their own: leave it alone.
            raise WrongTenantError(f"The block that bound {mine} ended where {current() or 'nothing'} is bound.")
        clean = connections.before_unbind(mine)
        try:
            _bound.reset(self._token)
        except ValueError:  # entered in one context and left in another: what was bound before is not known here
            _bound.set(None)
        if not clean and kind is None:
            raise WrongTenantError(f"The block that bound {mine} ended inside an open transaction: it is rolled back.")
        return mine


def _run_hooks(bound: Bound) -> None:
    for hook in bound.after_unbind:
        try:
            hook()
        except Exception:
            logger.exception("An after_unbind hook of %s failed", bound)


def after_unbind(hook: Callable[[], object]) -> None:
    """
    Runs ``hook`` once the present outermost block has ended, in whatever is bound then (nothing, or control).

    For what tenant work has to tell others than its own database. Unlike ``on_commit`` it knows nothing of
    transactions: register it from ``on_commit`` when it depends on one. An error in it is logged.
    """
    connections.require_bound().after_unbind.append(hook)


@cache
def _control_database(engine: str, name: str) -> dict[str, Any]:
    return connections.complete(settings.DATABASES[Plane.CONTROL])


def _control() -> Bound:
    database = settings.DATABASES[Plane.CONTROL]
    return Bound(Plane.CONTROL, Plane.CONTROL, "runtime", _control_database(database["ENGINE"], str(database["NAME"])))


def control_plane() -> Binding:
    """
    Bind a ``with`` or ``async with`` block to the control database: tenants, servers, operators.

    A tenant may be bound inside it, outside transactions; it cannot be bound inside a tenant.
    """
    return Binding("The control plane", lambda bound: bound.plane is Plane.CONTROL, _control)


@contextmanager
def unbound() -> Iterator[None]:
    """
    Lets a command that starts other units of work (``runserver``, ``dispatch``, ``worker``) begin as they do: with
    nothing. Only ``manage.py`` has bound control around it; inside a tenant it is refused.
    """
    outer = current()
    if outer is not None and outer.plane is not Plane.CONTROL:
        raise WrongTenantError(f"{outer} is bound and stays so until its block ends.")
    if outer is not None and connections.is_in_transaction(outer):
        raise WrongTenantError("The control plane has an open transaction: it cannot be unbound.")
    token = _bound.set(None)
    try:
        yield
    finally:
        _bound.reset(token)
