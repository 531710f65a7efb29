"""
Who may write what a scan found: the holder of the lease on its row in the outbox, under the newest fence.

Times are the database's, so that workers' clocks do not matter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import ExpressionWrapper, F, Q
from django.db.models.functions import Now

from scans.exceptions import LeaseLost
from scans.models import Scan, TaskQueue

REDISPATCH_SECONDS = 60  # a task that no worker has taken by then was lost on the way


def seconds_from_now(seconds: float) -> ExpressionWrapper:
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=models.DateTimeField())


def claim_next() -> TaskQueue | None:
    """The oldest task that is due, claimed so that no other dispatcher takes it; ``None`` when there is none."""
    due = TaskQueue.objects.filter(handled_at=None, available_at__lte=Now())
    # Whoever is not first takes the next one: each turn that claims nothing here is one that another has claimed.
    while (task := due.order_by("id").first()) is not None:
        claim = due.filter(pk=task.pk, dispatches=task.dispatches)
        if claim.update(available_at=seconds_from_now(REDISPATCH_SECONDS), dispatches=F("dispatches") + 1):
            return task
    return None


def put_back(task: TaskQueue, seconds: float) -> None:
    """A task that was claimed here and not sent is due again in ``seconds``, unless somebody has it by now."""
    TaskQueue.objects.filter(pk=task.pk, handled_at=None, dispatches=task.dispatches + 1, fence=task.fence).update(
        available_at=seconds_from_now(seconds)
    )


def take_lease(message_id: UUID) -> "Lease | None":
    """``None`` when the task is done, is another worker's, or was never this tenant's: then there is nothing to do."""
    free = Q(lease_until=None) | Q(lease_until__lt=Now())
    with transaction.atomic():
        taken = TaskQueue.objects.filter(free, message_id=message_id, handled_at=None).update(
            fence=F("fence") + 1, **_held_until()
        )
        if not taken:
            return None
        task = TaskQueue.objects.get(message_id=message_id)
        scan = Scan.objects.select_related("target", "profile").get(number=task.task_id)
        Scan.objects.filter(pk=scan.pk).exclude(state__in=Scan.ENDED).update(state=Scan.State.RUNNING, reason="")
        Scan.objects.filter(pk=scan.pk, started_at=None).update(started_at=Now())
    return Lease(message_id, task.fence, scan)


def _held_until() -> dict:
    until = seconds_from_now(settings.BULKHEAD_LEASE_SECONDS)
    return {"lease_until": until, "available_at": until}


@dataclass(frozen=True)
class Lease:
    message_id: UUID  # not the row's number, which another tenant's row has too
    fence: int
    scan: Scan

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

    def report(self, progress: int, message: str) -> None:
        with self.write():
            Scan.objects.filter(pk=self.scan.pk).update(progress=progress, message=message[:200])

    def finish(self, state: str, reason: str = "") -> None:
        """The scan has ended, and its task with it, in one transaction."""
        with self.write():
            Scan.objects.filter(pk=self.scan.pk, state=Scan.State.RUNNING).update(
                state=state, reason=reason, progress=100, message="", ended_at=Now()
            )
            self._row().update(handled_at=Now(), lease_until=None)

    def give_back(self, reason: str, seconds: float) -> None:
        """The scan may not run now: it is blocked, for ``reason``, and looked at again in ``seconds``."""
        with self.write():
            Scan.objects.filter(pk=self.scan.pk).update(state=Scan.State.BLOCKED, reason=reason, message="")
            self._row().update(lease_until=None, available_at=seconds_from_now(seconds))

    def _row(self) -> models.QuerySet:
        return TaskQueue.objects.filter(message_id=self.message_id, fence=self.fence, handled_at=None)
