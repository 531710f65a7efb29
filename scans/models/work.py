"""Scans, the outbox that says which of them are to be run, and what became of each."""

from collections.abc import Collection
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from scans.models.targets import ScanProfile, Target
from tenants.models import IdentifierField, TenantModel, TenantQuerySet


class ScanCounter(models.Model):
    """One row: the number of the tenant's newest scan. Its lock orders the numbers."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    @classmethod
    def next(cls) -> int:
        """Inside the transaction that uses it."""
        cls.objects.filter(pk=1).update(number=F("number") + 1)
        return cls.objects.values_list("number", flat=True).get(pk=1)


def _require_no_state(fields: Collection[str]) -> None:
    if "state" in fields:
        raise TypeError("A scan's state is written by scans.states.move() alone, with the event that tells of it.")


class ScanQuerySet(TenantQuerySet):
    def update(self, **fields) -> int:
        _require_no_state(fields)
        return super().update(**fields)

    def move(self, **fields) -> int:
        """For ``scans.states.move()``."""
        return super().update(**fields)


class Scan(TenantModel):
    class State(models.TextChoices):
        QUEUED = "queued"
        BLOCKED = "blocked"
        DISPATCHED = "dispatched"
        RUNNING = "running"
        PAUSING = "pausing"
        PAUSED = "paused"
        CANCELLING = "cancelling"
        SUCCEEDED = "succeeded"
        PARTIAL = "partial"
        FAILED = "failed"
        CANCELLED = "cancelled"
        EXPIRED = "expired"
        QUARANTINED = "quarantined"

    WAITING = (State.QUEUED, State.BLOCKED, State.DISPATCHED)
    UNHELD = (*WAITING, State.PAUSED)  # no worker has it
    ENDED = (State.SUCCEEDED, State.PARTIAL, State.FAILED, State.CANCELLED, State.EXPIRED, State.QUARANTINED)

    number = models.PositiveBigIntegerField(unique=True, help_text="counted per tenant, shown to people")
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="scans")
    profile = models.ForeignKey(ScanProfile, on_delete=models.PROTECT, related_name="scans")
    retry_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="retries")
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    moves = models.PositiveIntegerField(default=0, help_text="from state to state: the number of the newest event")
    reason = models.CharField(max_length=40, blank=True, help_text="code: why it is blocked, partial or failed")
    progress = models.PositiveSmallIntegerField(default=0, help_text="per cent")
    message = models.CharField(max_length=200, blank=True, help_text="what it is doing")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = ScanQuerySet.as_manager()  # type: ignore[assignment]  # narrower than the base

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["state", "created_at"], name="scan_state"),
            models.Index(fields=["created_at"], name="scan_asked"),
        ]

    def __str__(self):
        return f"scan {self.number}"

    def save(self, *args, **options):
        _require_no_state(options.get("update_fields") or ())
        super().save(*args, **options)


class ScanEvent(TenantModel):
    """A scan went to this state. Written with the move itself (scans/states.py), and by nothing else."""

    scan = models.ForeignKey(Scan, on_delete=models.CASCADE, related_name="events")
    sequence = models.PositiveIntegerField(help_text="counted per scan, without gaps")
    state = models.CharField(max_length=12, choices=Scan.State)
    reason = models.CharField(max_length=40, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    fence = models.PositiveIntegerField(null=True, help_text="the lease of the worker that moved it")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["sequence"]
        constraints = [models.UniqueConstraint(fields=["scan", "sequence"], name="one_event_a_move")]

    def __str__(self):
        return f"{self.scan_id}: {self.state}"


class IdempotencyKey(TenantModel):
    """A request that was answered: the same one again has the same answer, and nothing is done."""

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = IdentifierField(max_length=255)
    digest = models.CharField(max_length=64, help_text="of what was asked for")
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["created_by", "key"], name="one_request_a_key")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self):
        return self.key


class TaskQueue(models.Model):
    """
    The outbox: this row, not Redis, says that a scan is to be run. All times are the database's.

    ``available_at`` is when a dispatcher may next take it: at once when new, after a while when it was dispatched and
    no worker came (Redis lost it), at the end of its lease when a worker took it and died; never (``NULL``) while its
    scan is paused. Of a tenant's tasks that are due, the one with the lowest ``priority`` is first.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.PositiveBigIntegerField(unique=True, help_text="the scan's number")
    message_id = models.UUIDField(unique=True, default=uuid7, help_text="unique over all tenants; the RQ job's id")
    priority = models.PositiveSmallIntegerField(default=5, help_text="1 to 9: 1 is first of the tenant's, 9 last")
    available_at = models.DateTimeField(db_default=Now(), null=True)
    is_sent = models.BooleanField(default=False, help_text="to the workers: on its way until it is available again")
    attempts = models.PositiveIntegerField(default=0, help_text="leases in a row that did not come to an orderly end")
    dispatches = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0, help_text="counts leases; writes of an older one are refused")
    lease_until = models.DateTimeField(null=True, blank=True)
    handled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["handled_at", "available_at"], name="taskqueue_open"),
            models.Index(fields=["handled_at", "priority", "id"], name="taskqueue_order"),
            models.Index(fields=["handled_at", "is_sent"], name="taskqueue_sent"),
            models.Index(fields=["handled_at", "lease_until"], name="taskqueue_held"),
        ]

    def __str__(self):
        return f"task {self.task_id} ({self.message_id})"


class ScanRun(TenantModel):
    """One engine's execution in one scan: what it was, how it ended, and above all what it covered."""

    scan = models.ForeignKey(Scan, on_delete=models.CASCADE, related_name="runs")
    engine = models.CharField(max_length=16)
    fence = models.PositiveIntegerField(help_text="the lease that ran it")
    version = models.CharField(max_length=80, blank=True)
    argv = models.JSONField(default=list)
    outcome = models.CharField(max_length=16, blank=True, help_text="empty while it runs, or when its worker died")
    exit_code = models.IntegerField(null=True, blank=True)
    coverage = models.JSONField(default=list, help_text="[rule, port]: tested completely")
    not_covered = models.JSONField(default=list, help_text="[rule, port, reason]")
    is_healthy = models.BooleanField(default=False, help_text="the target answered as well after as before")
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["scan", "engine", "fence"], name="one_run_a_lease")]
        indexes = [models.Index(fields=["started_at", "ended_at"], name="scanrun_took")]

    def __str__(self):
        return f"{self.engine} of {self.scan_id}"
