"""
Whom a dispatcher looks at beside those who woke it: tenants whose hint in control is due, and, slowly, all.

What that costs depends on how many have work, not on how many there are: the hint is one indexed column, and the round
over all looks at ten tenants a second at most, and takes ``BULKHEAD_SWEEP_SECONDS`` at least. It finds what neither a
wake-up nor a hint has told.
"""

import logging
import math
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Min, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from scans.leases import seconds_from_now
from scans.models import TaskQueue
from tenants.context import after_unbind, control_plane, current_tenant
from tenants.models import Tenant

logger = logging.getLogger(__name__)

HINTS_SECONDS = 5.0
HINTED_AT_ONCE = 1000
ROOM_SECONDS = 10  # before who waits for room is looked at unasked: less than what is late (``tenants/load.py``)
PASSED_OVER_SECONDS = 30  # before a tenant that could not be looked at is hinted at again
TURN = 16  # tenants that are looked at before wake-ups are read again: 0.1 to 0.2 s
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
        return {pk: hint for pk, hint in due.values_list("pk", "look_at")[:HINTED_AT_ONCE] if hint is not None}


def note_next_look(hint: datetime) -> None:
    """
    In a tenant of which nothing is due: control hears when something will be, once the tenant is unbound, unless
    somebody has told it another time than the ``hint`` that led here.
    """
    tenant_id = current_tenant().id
    later = Min("available_at", filter=Q(available_at__gt=Now()))
    found = TaskQueue.objects.filter(handled_at=None).aggregate(first=Min("available_at"), later=later)

    def note() -> None:
        look_at = found["later"]
        # What is due waits for room. Most room wakes a dispatcher; a lease that runs out and a lost job do not.
        is_soon = look_at is not None and look_at < timezone.now() + timedelta(seconds=ROOM_SECONDS)
        if found["first"] != found["later"] and not is_soon:
            look_at = seconds_from_now(ROOM_SECONDS)
        with control_plane():
            _unchanged(tenant_id, hint).update(look_at=look_at)

    after_unbind(note)


def put_off(tenant: UUID | str, hint: datetime) -> None:
    """
    Who could not be looked at is not hinted at for a while. Else those of one silent server, always the oldest, would
    hide everybody else's hints.
    """
    try:
        with control_plane():
            _unchanged(tenant, hint).update(look_at=seconds_from_now(PASSED_OVER_SECONDS))
    except DatabaseError as error:
        logger.warning("The hint of tenant %s cannot be put off: %s", tenant, error)


def _unchanged(tenant: UUID | str, hint: datetime) -> QuerySet[Tenant]:
    return Tenant.objects.filter(pk=tenant, look_at__range=(hint - SAME, hint + SAME))


class Rounds:
    """The first round over all is as fast as it can be: who knows for how long no dispatcher ran."""

    def __init__(self) -> None:
        self._tenants: list[UUID] = []
        self._position = 0
        self._began_at = self._hints_at = -math.inf
        self._seconds = 0.0  # that a round takes
        self._is_first = True
        self._served: set[UUID | str] = set()

    def due(self, asking: int = 0) -> tuple[dict[UUID | str, datetime], list[UUID]]:
        """Whose hints are due, each some seconds; and the next few of the round, beside so many who were ``asking``."""
        now = time.monotonic()
        hints: dict[UUID | str, datetime] = {}
        try:
            if now >= self._hints_at:
                self._hints_at = now + HINTS_SECONDS
                self._hint_at_served()
                hints = hinted_tenants()
            if now >= self._began_at + self._seconds and self._position == len(self._tenants):
                tenants = all_tenants()
                self._is_first &= self._began_at == -math.inf
                self._began_at, self._position, self._tenants = now, 0, tenants
                self._seconds = max(settings.BULKHEAD_SWEEP_SECONDS, len(tenants) / LOOKS_A_SECOND)
        except DatabaseError as error:
            logger.warning("The tenants cannot be read; the next look tries again: %s", error)
        return hints, self._next_few(now, max(AT_ONCE, asking // BESIDE))

    def served(self, tenants: Iterable[UUID | str]) -> None:
        """
        These had work, and no hint led to them. If control has none, because a process died before it wrote it, nobody
        would come back for a dead worker's scan: so there is one before hints are read again. All of them in one
        statement then, and none for each scan.
        """
        self._served.update(tenants)

    def _hint_at_served(self) -> None:
        if self._served:
            with control_plane():
                Tenant.objects.filter(pk__in=self._served, look_at=None).update(look_at=Now())
            self._served = set()

    def end(self) -> None:
        try:
            self._hint_at_served()
        except DatabaseError as error:
            logger.warning("Who was served last cannot be noted; the round over all finds them: %s", error)

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


class Waiting:
    """
    Who is to be looked at. Who asked first is first, and who may have more asks again; beside each four of them, and
    where fewer ask, come those whose hint was due. Few at a time: a hint is old, and a long tail of them must not keep
    waiting who has just asked.
    """

    def __init__(self) -> None:
        self._asked: dict[UUID | str, None] = {}  # ordered sets
        self._hinted: dict[UUID | str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._asked or self._hinted)

    def __contains__(self, tenant: UUID | str) -> bool:
        return tenant in self._asked or tenant in self._hinted

    def add(self, asked: Iterable[UUID | str], hinted: Iterable[UUID | str] = ()) -> None:
        self._asked |= dict.fromkeys(asked)
        self._hinted |= dict.fromkeys(hinted)

    def take(self) -> list[UUID | str]:
        """The next few."""
        turn = list(islice(self._asked, TURN))
        others = (tenant for tenant in self._hinted if tenant not in turn)
        turn += islice(others, max(TURN // BESIDE, TURN - len(turn)))
        for tenant in turn:
            self._asked.pop(tenant, None)
            self._hinted.pop(tenant, None)
        return turn


class Held:
    """
    Tenants whose tasks somebody else had locked: looked at again soon, and then less and less often. And everybody,
    while no job can be sent: what is claimed then is undone, with two events each time.
    """

    def __init__(self) -> None:
        self._all_until = -math.inf
        self._next: dict[UUID | str, tuple[float, float]] = {}  # when, and the pause before it

    def add(self, tenant: UUID | str, error: Exception) -> None:
        _, last = self._next.get(tenant, (0.0, FIRST_PAUSE / 2))
        pause = min(2 * last, LONGEST_PAUSE)
        self._next[tenant] = time.monotonic() + pause, pause
        if last < pause == LONGEST_PAUSE:
            logger.warning("Tenant %s waits for somebody who has locked its tasks: %s", tenant, error)

    def add_all(self, seconds: float) -> None:
        self._all_until = time.monotonic() + seconds

    def seconds_for_all(self) -> float:
        """0 while nothing keeps everybody."""
        return max(0.0, self._all_until - time.monotonic())

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
