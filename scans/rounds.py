"""
Whom a dispatcher looks at beside those who woke it: tenants whose hint in control is due, and, slowly, all.

What that costs depends on how many have work, not on how many there are: the hint is one indexed column, and the round
over all looks at ten tenants a second at most, and takes ``BULKHEAD_SWEEP_SECONDS`` at least. It finds what neither a
wake-up nor a hint has told.
"""

import logging
import math
import time
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Min
from django.db.models.functions import Now
from django.utils import timezone

from scans.models import TaskQueue
from tenants.context import after_unbind, control_plane, current_tenant
from tenants.models import Tenant

logger = logging.getLogger(__name__)

HINTS_SECONDS = 5.0
SAME = timedelta(microseconds=500)  # SQLite's clock gives milliseconds, and compares them as text
# Of the round over all, between two looks at who has asked: one, so that nobody waits for it; and, where many ask all
# the time, one beside each four of them, so that it gets on.
AT_ONCE, BESIDE = 1, 4
LOOKS_A_SECOND = 10  # of the round over all, however many there are: each connects to another database
LONGEST_WAIT_SECONDS = 0.5  # how soon a dispatcher hears that it should stop
# Between two tries to claim what somebody else has locked: a request or another dispatcher for some milliseconds, and
# for as long as they like whoever stands still.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0


def all_tenants() -> list[UUID]:
    with control_plane():
        return list(Tenant.objects.filter(state=Tenant.State.ACTIVE).order_by("id").values_list("pk", flat=True))


def hinted_tenants() -> dict[UUID | str, datetime]:
    """Those whose hint is due, with the hint."""
    with control_plane():
        due = Tenant.objects.filter(state=Tenant.State.ACTIVE, look_at__lte=Now()).order_by("look_at")
        return {pk: hint for pk, hint in due.values_list("pk", "look_at")[:1000] if hint is not None}


def note_next_look(hint: datetime) -> None:
    """
    In a tenant of which nothing is due: control hears when something will be, once the tenant is unbound, unless
    somebody has told it another time than the ``hint`` that led here.
    """
    tenant_id = current_tenant().id
    next_look = TaskQueue.objects.filter(handled_at=None).aggregate(at=Min("available_at"))["at"]

    def note() -> None:
        with control_plane():
            unchanged = Tenant.objects.filter(pk=tenant_id, look_at__range=(hint - SAME, hint + SAME))
            # What is due and waits for room is looked at again soon; it is not late.
            is_due = next_look is not None and next_look <= timezone.now()
            unchanged.update(look_at=Now() if is_due else next_look)

    after_unbind(note)


class Rounds:
    """The first round over all is as fast as it can be: who knows for how long no dispatcher ran."""

    def __init__(self) -> None:
        self._tenants: list[UUID] = []
        self._position = 0
        self._began_at = self._hints_at = -math.inf
        self._seconds = 0.0  # that a round takes
        self._is_first = True

    def due(self, asking: int = 0) -> tuple[dict[UUID | str, datetime], list[UUID]]:
        """Whose hints are due, each some seconds; and the next few of the round, beside so many who were ``asking``."""
        now = time.monotonic()
        hints: dict[UUID | str, datetime] = {}
        try:
            if now >= self._hints_at:
                self._hints_at = now + HINTS_SECONDS
                hints = hinted_tenants()
            if now >= self._began_at + self._seconds and self._position == len(self._tenants):
                tenants = all_tenants()
                self._is_first &= self._began_at == -math.inf
                self._began_at, self._position, self._tenants = now, 0, tenants
                self._seconds = max(settings.BULKHEAD_SWEEP_SECONDS, len(tenants) / LOOKS_A_SECOND)
        except DatabaseError as error:
            logger.warning("The tenants cannot be read; the next look tries again: %s", error)
        return hints, self._next_few(now, max(AT_ONCE, asking // BESIDE))

    def wait_seconds(self) -> float:
        """For a wake-up, before the round goes on."""
        if self._position == len(self._tenants):
            return LONGEST_WAIT_SECONDS
        if self._is_first:
            return 0.0
        next_at = self._began_at + self._position * self._seconds / len(self._tenants)
        return min(LONGEST_WAIT_SECONDS, max(0.001, next_at - time.monotonic()))  # not 0: clocks are rounded

    def _next_few(self, now: float, at_once: int) -> list[UUID]:
        share = 1.0 if self._is_first else (now - self._began_at) / max(self._seconds, 1e-9)
        until = min(math.ceil(share * len(self._tenants)), self._position + at_once, len(self._tenants))
        few = self._tenants[self._position : until]
        self._position = max(self._position, until)
        return few


class Held:
    """Tenants whose tasks somebody else had locked: looked at again soon, and then less and less often."""

    def __init__(self) -> None:
        self._next: dict[UUID | str, tuple[float, float]] = {}  # when, and the pause before it

    def add(self, tenant: UUID | str, error: Exception) -> None:
        _, last = self._next.get(tenant, (0.0, FIRST_PAUSE / 2))
        pause = min(2 * last, LONGEST_PAUSE)
        self._next[tenant] = time.monotonic() + pause, pause
        if last < pause == LONGEST_PAUSE:
            logger.warning("Tenant %s waits for somebody who has locked its tasks: %s", tenant, error)

    def release(self, tenant: UUID | str) -> None:
        self._next.pop(tenant, None)

    def due(self) -> list[UUID | str]:
        now = time.monotonic()
        return [tenant for tenant, (at, _) in self._next.items() if at <= now]

    def wait_seconds(self) -> float:
        soonest = min((at for at, _ in self._next.values()), default=math.inf)
        return max(0.001, soonest - time.monotonic())  # not 0, which does not wait

    def wait(self) -> list[UUID | str]:
        """The next that are due, once they are; none when each has been waited for for a second or so."""
        soonest = min((at for at, pause in self._next.values() if pause < LONGEST_PAUSE), default=None)
        if soonest is None:
            return []
        time.sleep(max(0.0, soonest - time.monotonic()))
        return self.due()
