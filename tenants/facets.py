"""
What is ambient besides the database, and belongs to a tenant all the same: cache keys, files, signatures, log lines.

A facet is registered once, in an ``AppConfig.ready``:

    class Mailbox(Facet):
        name = "mailbox"

        def probe(self):
            return mailbox_of(current_tenant())

    register(Mailbox())

Best is a facet that reads what is bound whenever it is asked: it needs no ``bind``, costs nothing at a binding, and
cannot be left behind. ``bind`` is for what keeps a state of its own.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from django.core.exceptions import ImproperlyConfigured

from tenants.planes import Bound, Plane, current

logger = logging.getLogger(__name__)


class Facet:
    name: str

    def bind(self, bound: Bound) -> AbstractContextManager[object] | None:
        """
        What is entered when a tenant is bound, and left before it is unbound, in reverse order of registration.

        It runs in the event loop under ``async with``, so it must not block; and once more around each step of a
        streamed body. It is not told of the block's error, and so cannot swallow it. A forked child and a new thread
        begin without it, unless it says otherwise itself.
        """
        return None

    def probe(self) -> str:
        """What this facet gives for one fixed input in what is bound now: no two tenants may get the same."""
        raise NotImplementedError


_facets: dict[str, Facet] = {}
_with_bind: list[Facet] = []


def register(facet: Facet) -> None:
    """Raises ``ImproperlyConfigured`` for a name that is taken."""
    if facet.name in _facets:
        raise ImproperlyConfigured(f"A facet with the name {facet.name!r} is registered already.")
    _facets[facet.name] = facet
    if type(facet).bind is not Facet.bind:
        _with_bind.append(facet)


def registered() -> list[Facet]:
    return list(_facets.values())


def new_stack() -> ExitStack | None:
    return ExitStack() if _with_bind else None


def enter(bound: Bound, stack: ExitStack | None) -> None:
    """Into ``stack``, which whoever calls closes, also when this raises half-way."""
    if stack is None or bound.plane is not Plane.TENANT:
        return
    for facet in _with_bind:
        if (manager := facet.bind(bound)) is not None:
            manager.__enter__()
            # As a callback: an error of one release is not thrown into the next.
            stack.callback(manager.__exit__, None, None, None)


def leave(stack: ExitStack | None) -> Exception | None:
    """Releases all of them, whatever one of them raises. The last error is logged, and given back."""
    try:
        if stack is not None:
            stack.close()
    except Exception as error:
        logger.exception("A facet of %s could not be released", current())
        return error
    return None


def entered(bound: Bound) -> AbstractContextManager[None]:
    """For a step that resumes ``bound`` after its block has ended."""
    return _entered(bound, ExitStack()) if _with_bind else nullcontext()


@contextmanager
def _entered(bound: Bound, stack: ExitStack) -> Iterator[None]:
    try:
        enter(bound, stack)
        yield
    except BaseException:
        leave(stack)
        raise
    if failed := leave(stack):
        raise failed
