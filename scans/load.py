"""
What operators are told of the tenants' scans. A dispatcher measures where it has looked and has nothing more to send,
and notes it in control every other second, of all tenants at once: no scan waits for that.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db.models import Count, Max, Min
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from scans.models import Scan, ScanEvent, TaskQueue
from tenants.context import current_tenant
from tenants.exceptions import TenantError
from tenants.load import Measured, note_dispatcher, note_end, note_loads, tenants_with_work

logger = logging.getLogger(__name__)

NOTE_SECONDS = 2.0
BEAT_SECONDS = 10.0  # how often a dispatcher notes that it runs, and reads of whom work is noted

STATE = Scan.State
HELD = (STATE.RUNNING, STATE.PAUSING, STATE.CANCELLING)  # by a worker, under a lease
MEASURED = (STATE.QUEUED, STATE.DISPATCHED, STATE.BLOCKED, *HELD, STATE.QUARANTINED)


def measure() -> dict[str, Any]:
    """The figures of the bound tenant, by the columns of ``TenantLoad``: one statement, where no scan waits or runs."""
    rows = Scan.objects.filter(state__in=MEASURED).order_by().values_list("state")
    found = {state: (count, first) for state, count, first in rows.annotate(Count("pk"), Min("created_at"))}

    def count(*states: str) -> int:
        return sum(found[state][0] for state in states if state in found)

    waiting = [found[state][1] for state in (STATE.QUEUED, STATE.DISPATCHED) if state in found]
    figures: dict[str, Any] = {
        "queued": count(STATE.QUEUED),
        "dispatched": count(STATE.DISPATCHED),
        "blocked": count(STATE.BLOCKED),
        "running": count(*HELD),
        "overdue": 0,
        "quarantined": 0,
        "waiting_since": min(waiting, default=None),
        "leased_since": None,
    }
    if figures["running"]:
        leases = ScanEvent.objects.filter(scan__state__in=HELD, state=STATE.RUNNING).order_by().values("scan")
        figures["leased_since"] = leases.annotate(newest=Max("at")).aggregate(oldest=Min("newest"))["oldest"]
        figures["overdue"] = TaskQueue.objects.filter(handled_at=None, lease_until__lt=Now()).count()
    if STATE.QUARANTINED in found:
        figures["quarantined"] = Scan.objects.filter(state=STATE.QUARANTINED, retries=None).count()
    return figures


class Loads:
    """
    What one dispatcher has measured and not noted yet. Of a tenant without work that nobody has asked a look at, and
    of whom no work is noted, there is nothing to note: so idle tenants cost control nothing.
    """

    def __init__(self) -> None:
        self._process = uuid7()
        self._measured: dict[UUID, Measured] = {}
        self._with_work: set[UUID] = set()
        self._noted_at = self._beat_at = -math.inf

    def look(self, *, is_asked: bool) -> None:
        """In a tenant."""
        tenant_id, figures = current_tenant().id, measure()
        is_known = tenant_id in self._with_work or tenant_id in self._measured
        if any(figures.values()) or is_known or is_asked:
            self._measured[tenant_id] = time.monotonic(), figures

    def go_on(self) -> None:
        """Between two rounds, in nothing."""
        now = time.monotonic()
        if now >= self._beat_at + BEAT_SECONDS:
            self._beat_at = now
            with _harmless():
                note_dispatcher(self._process)
            self.read()
        if now >= self._noted_at + NOTE_SECONDS:
            self.note()

    def read(self) -> None:
        with _harmless():
            self._with_work = tenants_with_work()

    def note(self) -> None:
        self._noted_at = time.monotonic()
        with _harmless():
            note_loads(self._measured)
            self._with_work.update(self._measured)
            self._measured = {}

    def end(self) -> None:
        self.note()
        with _harmless():
            note_end(self._process)


@contextmanager
def _harmless() -> Iterator[None]:
    """What cannot be noted now is noted later; scans go on."""
    try:
        yield
    except (DatabaseError, TenantError) as error:
        logger.warning("The tenants' load cannot be noted; the next try is in a moment: %s", error)
