"""
Who may write what a scan found: the holder of the lease on its row in the outbox, under the newest fence.

Times are the database's, so that workers' clocks do not matter.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from traceback import clear_frames
from typing import ParamSpec, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, models, transaction
from django.db.models import ExpressionWrapper, F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from scans.exceptions import LeaseLost, TasksHeld
from scans.limits import has_room_to_send
from scans.models import Scan, ScanCounter, ScanRun, TaskQueue
from scans.states import COMES_FROM, move
from scans.wakeup import wake_after_commit

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

REDISPATCH_SECONDS = 40  # a task that no worker has taken by then was lost on the way
ATTEMPTS = 3  # leases in a row that nobody gave back: then the scan is taken for what ends its workers
WAITS_AT_MOST = timedelta(days=7)  # from being asked for to the first engine that is started
BLOCKED_SECONDS, BLOCKED_SECONDS_AT_MOST = 60, 300
DEADLOCK, LOCK_WAIT = 1213, 1205  # MariaDB's and MySQL's; of SQLite's transactions one begins at a time
TRIES = 3


def pause() -> None:
    time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  so that two do not meet again


def again_after(*codes: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For a function that is one transaction: three times at most, as long as the database undoes it for another's."""

    def trying(act: Callable[P, T]) -> Callable[P, T]:
        @wraps(act)
        def tried(*args: P.args, **kwargs: P.kwargs) -> T:
            for _ in range(TRIES - 1):
                try:
                    return act(*args, **kwargs)
                except OperationalError as error:
                    if error.args[0] not in codes:
                        raise
                    logger.warning("%s is done again: %s", act.__name__, error)
                pause()
            return act(*args, **kwargs)

        return tried

    return trying


def seconds_from_now(seconds: float) -> ExpressionWrapper:
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=models.DateTimeField())


@contextmanager
def _counting_alone() -> Iterator[None]:
    """
    A transaction of one dispatcher at a time. It waits for nobody's lock: other tenants would wait with it. Raises
    ``TasksHeld``.
    """
    with ExitStack() as stack:
        try:
            with connection.without_waiting():  # type: ignore[attr-defined]
                stack.enter_context(transaction.atomic())
                ScanCounter.objects.select_for_update(nowait=True).get(pk=1)
        except OperationalError as error:
            cause = error.__cause__
            if cause is None or not connection.says_locked(cause):  # type: ignore[attr-defined]
                raise
            # Each of Django's errors is a cycle with its traceback, in which the cursor is. Whichever thread collected
            # that would wait there for this connection, which on SQLite may be waiting for that thread's transaction.
            for each in (error, cause):
                clear_frames(each.__traceback__)
            raise TasksHeld(*error.args) from None
        yield


@again_after(DEADLOCK)
def claim_next() -> TaskQueue | None:
    """
    The first task that is due, claimed so that no other dispatcher takes it; ``None`` when there is none, or no room
    for one more by the tenant's limits. Raises ``TasksHeld`` at once while somebody else claims one or asks for a scan.
    """
    with _counting_alone():
        due = TaskQueue.objects.filter(handled_at=None, available_at__lte=Now()).order_by("priority", "id")
        if not has_room_to_send():
            due = due.exclude(lease_until=None)  # whose worker has died: they had room before
        if (task := due.first()) is None:
            return None
        claim = due.order_by().filter(pk=task.pk)
        claimed = claim.update(
            available_at=seconds_from_now(REDISPATCH_SECONDS), is_sent=True, dispatches=F("dispatches") + 1
        )
        return task if claimed else None  # a member has paused or cancelled it: they wake who goes on


def blocked_seconds(looks: int) -> float:
    """
    Until the conditions of a scan that may not run are looked at again, after so many ``looks``: more each time, as
    those that nobody does anything about would keep the tenant's others waiting.
    """
    return min(BLOCKED_SECONDS * 2 ** min(looks, 10), BLOCKED_SECONDS_AT_MOST)


def put_back(task: TaskQueue, seconds: float) -> None:
    """A task that was claimed here and not sent is due again in ``seconds``, unless somebody has it by now."""
    mine = TaskQueue.objects.filter(pk=task.pk, handled_at=None, dispatches=task.dispatches + 1, fence=task.fence)
    mine.exclude(available_at=None).update(  # but while its scan is paused
        available_at=seconds_from_now(seconds), is_sent=False
    )


@again_after(DEADLOCK)
def put_to_rest(task: TaskQueue, scan: Scan) -> bool:
    """
    Whether the scan of a task that nobody holds is not to be run any more, or not now: its worker has died on the way
    to another state, or too many have, or it has waited for too long. Then it is in that state, and what such a worker
    may still write is refused.
    """
    ends_task: dict = {"handled_at": Now(), "lease_until": None}
    if scan.state == Scan.State.PAUSING:
        state, reason, ends_task = Scan.State.PAUSED, "", {"available_at": None, "lease_until": None, "attempts": 0}
    elif scan.state == Scan.State.CANCELLING:
        state, reason = Scan.State.CANCELLED, ""
    elif task.attempts >= ATTEMPTS:
        state, reason = Scan.State.QUARANTINED, "workers_died"
    elif _has_waited_too_long(scan):
        state, reason = Scan.State.EXPIRED, scan.reason
    else:
        return False
    with transaction.atomic():
        unheld = TaskQueue.objects.filter(_is_free(), pk=task.pk, fence=task.fence, handled_at=None)
        if unheld.update(fence=F("fence") + 1, **ends_task):
            _end_runs_of_the_dead(scan)
            also = {} if state == Scan.State.PAUSED else _ended()
            # Somebody may have moved it since it was read: then their move stands, and so does the task.
            transaction.set_rollback(not move(scan.pk, state, reason=reason, **also))
    return True


def _has_waited_too_long(scan: Scan) -> bool:
    # The database's clock decides, and is asked only where it might say so: clocks are not days apart.
    if timezone.now() - scan.created_at < WAITS_AT_MOST - timedelta(days=1):
        return False
    return Scan.objects.filter(pk=scan.pk, runs=None, created_at__lt=Now() - WAITS_AT_MOST).exists()


@again_after(DEADLOCK, LOCK_WAIT)
def take_lease(message_id: UUID) -> "Lease | None":
    """``None`` when the task is done, is another worker's, or was never this tenant's: then there is nothing to do."""
    with transaction.atomic():
        waiting = TaskQueue.objects.filter(
            _is_free(), message_id=message_id, handled_at=None, available_at__isnull=False, attempts__lt=ATTEMPTS
        )
        # Not of one that its worker, which has died, was to pause or to cancel: a dispatcher puts it to rest.
        startable = Scan.objects.filter(state__in=COMES_FROM[Scan.State.RUNNING]).values("number")
        taken = waiting.filter(task_id__in=startable)
        if not taken.update(fence=F("fence") + 1, attempts=F("attempts") + 1, **_held_until()):
            return None
        task = TaskQueue.objects.get(message_id=message_id)
        scan = Scan.objects.select_related("target", "profile").get(number=task.task_id)
        if task.fence > 1:
            _end_runs_of_the_dead(scan)
        move(scan.pk, Scan.State.RUNNING, fence=task.fence, started_at=Coalesce("started_at", Now()))
        wake_after_commit()  # there is room on the way to the workers for the tenant's next one
    return Lease(message_id, task.fence, scan, blocked_seconds(task.dispatches - 1))


def _end_runs_of_the_dead(scan: Scan) -> None:
    """They have no outcome; the seconds of their engines are counted to now."""
    ScanRun.objects.filter(scan=scan, ended_at=None).update(ended_at=Now())


def _is_free() -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=Now())


def _held_until() -> dict:
    until = seconds_from_now(settings.BULKHEAD_LEASE_SECONDS)
    return {"lease_until": until, "available_at": until, "is_sent": False}


def _ended() -> dict:
    return {"message": "", "ended_at": Now()}


@dataclass(frozen=True)
class Lease:
    message_id: UUID  # not the row's number, which another tenant's row has too
    fence: int
    scan: Scan
    blocked_seconds: float  # until it is looked at again, should it not be allowed to run

    @contextmanager
    def write(self) -> Iterator[None]:
        """
        A transaction that commits only under this lease, and renews it. Raises ``LeaseLost`` before anything is
        written when another worker has taken over, however late this one wakes up.
        """
        with transaction.atomic():
            # The row is locked until the commit: nobody can take the lease over in between.
            if not self._row().update(**_held_until()):
                raise LeaseLost(f"{self.scan} is no longer this worker's (fence {self.fence}).")
            yield

    @again_after(DEADLOCK, LOCK_WAIT)
    def record(self, act: Callable[[], T]) -> T:
        """What ``act`` answers, done in one ``write()``."""
        with self.write():
            return act()

    @again_after(DEADLOCK, LOCK_WAIT)
    def report(self, progress: int, message: str) -> None:
        with self.write():
            Scan.objects.filter(pk=self.scan.pk).update(progress=progress, message=message[:200])

    @again_after(DEADLOCK, LOCK_WAIT)
    def finish(self, state: str, reason: str = "") -> None:
        """The scan has ended, and its task with it, in one transaction. One that was to be cancelled is cancelled."""
        with self.write():
            if not self._move(state, reason=reason, progress=100, **_ended()):
                self._move(Scan.State.CANCELLED, **_ended())
            self._row().update(handled_at=Now(), lease_until=None)
            wake_after_commit()

    @again_after(DEADLOCK, LOCK_WAIT)
    def give_back(self, state: str, reason: str = "", seconds: float | None = None) -> None:
        """
        An orderly end of this lease and not of the scan, which goes to ``state``. It is looked at again in ``seconds``,
        or not before somebody resumes it. What a member has asked for meanwhile goes before.
        """
        with self.write():
            given: dict = {"available_at": None, "attempts": 0}
            if self._move(state, reason=reason, message=""):
                given["available_at"] = None if seconds is None else seconds_from_now(seconds)
            elif self._move(Scan.State.CANCELLED, of=(Scan.State.CANCELLING,), **_ended()):
                given = {"handled_at": Now()}
            else:
                self._move(Scan.State.PAUSED, of=(Scan.State.PAUSING,), message="")
            self._row().update(lease_until=None, **given)
            wake_after_commit()

    def _move(self, state: str, **fields) -> bool:
        return move(self.scan.pk, state, fence=self.fence, **fields)

    def _row(self) -> models.QuerySet:
        held = TaskQueue.objects.filter(message_id=self.message_id, fence=self.fence, handled_at=None)
        return held.filter(lease_until__isnull=False)  # one that was given back is over, though nobody took the next
