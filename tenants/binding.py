"""How a plane is bound and released. The public names are in ``tenants.context``."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from tenants import connections, facets
from tenants.exceptions import WrongTenantError
from tenants.planes import Bound, Plane, TenantSnapshot, _bound, current, require_bound

logger = logging.getLogger(__name__)


class Binding:
    """
    A plane for the length of one ``with`` or ``async with`` block; used once.

    ``is_bound`` tells whether what is bound already is the plane asked for (then nothing changes); ``resolve`` finds
    the plane, and may read control to do so. It runs before anything is bound.

    Whatever touches connections runs, under ``async with``, in the thread where Django's asynchronous code has them.
    """

    def __init__(self, what: str, is_bound: Callable[[Bound], bool], resolve: Callable[[], Bound]):
        self._what = what
        self._is_bound = is_bound
        self._resolve = resolve
        self._is_used = False
        self._mine: Bound | None = None

    def __enter__(self) -> TenantSnapshot | None:
        bound = self._find()
        try:
            return self._bind(bound)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    async def __aenter__(self) -> TenantSnapshot | None:
        bound = await sync_to_async(self._find)()
        try:
            return self._bind(bound)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise

    def __exit__(self, kind, error, traceback) -> None:
        ended, failed = self._unbind(kind)
        if ended:
            _finish(ended, failed, kind)

    async def __aexit__(self, kind, error, traceback) -> None:
        ended, failed = self._unbind(kind)
        if ended:
            await sync_to_async(_finish)(ended, failed, kind)

    def _find(self) -> Bound:
        """The plane that is bound already when it is the one asked for, or else the one to bind."""
        if self._is_used:
            raise WrongTenantError(f"{self._what} cannot be bound with the same object twice: make one for each block.")
        self._is_used = True
        outer = current()
        if outer is not None:
            if self._is_bound(outer):
                return outer
            if outer.plane is not Plane.CONTROL:
                raise WrongTenantError(
                    f"{self._what} cannot be bound inside {outer}: work that could hop from one plane to another "
                    "halfway is not allowed. End the outer block first."
                )
            if connections.is_in_transaction(outer):
                raise WrongTenantError(f"{self._what} cannot be bound inside an open transaction of the control plane.")
        bound = replace(self._resolve(), outer=outer, facets=facets.new_stack())
        connections.before_bind(bound)
        return bound

    def _bind(self, bound: Bound) -> TenantSnapshot | None:
        if bound is not current():
            _bound.set(bound)
            self._mine = bound
            facets.enter(bound, bound.facets)
        return bound.record.snapshot if bound.record else None

    def _unbind(self, kind) -> tuple[list[Bound], Exception | None]:
        """
        What ends here, innermost first: this block's plane, and what a generator that is still open bound inside it.
        With it the error of a facet that could not be released.
        """
        mine, self._mine = self._mine, None
        if mine is None:
            return [], None
        ended, inner = [], current()
        while inner is not None and inner is not mine:
            ended.append(inner)
            inner = inner.outer
        if inner is mine:
            return [*ended, mine], _release([*ended, mine])
        # Closed by somebody else, who has a binding of their own: leave that alone.
        if _may_raise(kind):
            raise WrongTenantError(f"The block that bound {mine} ended where {current() or 'nothing'} is bound.")
        return [], None


def _release(ended: list[Bound]) -> Exception | None:
    """Only the innermost can be a tenant, and it is bound still."""
    try:
        return facets.leave(ended[0].facets)
    finally:
        _bound.set(ended[-1].outer)


def _finish(ended: list[Bound], failed: Exception | None, kind) -> None:
    are_clean = [connections.after_unbind(bound) for bound in ended]
    for bound in ended:
        run_after_unbind(bound)
    if not _may_raise(kind):
        return
    if not all(are_clean):
        raise WrongTenantError(f"The block that bound {ended[-1]} ended inside an open transaction: it is rolled back.")
    if len(ended) > 1:
        raise WrongTenantError(
            f"The block that bound {ended[-1]} ended while {ended[0]} was bound inside it, by a generator that holds a "
            "binding across a yield: both are ended."
        )
    if failed is not None:
        raise failed


def _may_raise(kind) -> bool:
    """Never in place of the block's own exception."""
    return kind is None or kind is GeneratorExit


def after_unbind(hook: Callable[[], object]) -> None:
    """
    Runs ``hook`` once the block that bound the present plane has ended, in what is bound then (nothing, or control).

    For what tenant work has to tell others than its own database. Unlike ``on_commit`` it knows nothing of
    transactions: register it from ``on_commit`` when it depends on one. An error in it is logged.
    """
    require_bound().after_unbind.append(hook)


def run_after_unbind(bound: Bound) -> None:
    """Each hook once: the steps of a streamed body, which come after their request's block, bring more of them."""
    while True:
        try:
            hook = bound.after_unbind.pop(0)
        except IndexError:  # not asked before: tasks that share a binding may be here at once
            return
        try:
            hook()
        except Exception:
            logger.exception("An after_unbind hook of %s failed", bound)


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
    _bound.set(None)
    try:
        yield
    finally:
        _bound.set(outer)
