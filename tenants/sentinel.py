"""
Whether a unit of work left things as it found them. Code that changes its own binding could hand one tenant's data to
the next one's request, so it is reported, and the process it ran in goes.

``settings.TENANT_RETIRE`` names what makes it go.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.utils.module_loading import import_string

from tenants.planes import Bound, Plane, _bound, current

logger = logging.getLogger(__name__)
_asked: dict[int, object] = {}  # by process: a forked child has not been asked yet


@contextmanager
def unit_of_work(name: str, in_command: bool = False) -> Iterator[None]:
    """
    A request or job: begins unbound whatever its thread was left with, and has to end so. ``in_command``: ``manage.py``
    has bound control around a worker that is not ours.
    """
    outer = current()
    if not (in_command and outer is not None and outer.plane is Plane.CONTROL):
        _expect(None, f"Before {name}")
    token = _bound.set(None)
    try:
        yield
    finally:
        _expect(None, f"After {name}")
        _bound.reset(token)


@contextmanager
def unchanged(name: str) -> Iterator[None]:
    """What is bound at the block's beginning is bound at its end."""
    bound = current()
    try:
        yield
    finally:
        _expect(bound, f"In {name}")


def _expect(bound: Bound | None, where: str) -> None:
    found = current()
    if found is not bound:
        logger.critical(
            "%s: %s was bound where %s was expected. This process is retired.",
            where,
            found or "nothing",
            bound or "nothing",
        )
        import_string(settings.TENANT_RETIRE)()


def end_process() -> None:
    """
    Asks this process to end as its manager would, once: gunicorn's worker and RQ's finish what they are at, and are
    started again; the process that RQ forks for a job ends at once, and the job counts as failed.
    """
    mine = object()
    if _asked.setdefault(os.getpid(), mine) is mine:
        os.kill(os.getpid(), signal.SIGTERM)
