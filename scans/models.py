"""What a tenant tests, what it may test, and what was found. All of it lives in the tenant's own database."""

import hashlib
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from scans.addresses import AddressRefused, normalise_host
from scans.engines import ENGINES
from scans.engines.base import EngineInputError, from_json
from tenants.audit.rules import audited
from tenants.models import IdentifierField, TenantModel, TenantQuerySet
from tenants.versions import VersionedModel

INTRUSIVENESS = ["passive", "safe_active", "intrusive"]  # each permits those before it
SEVERITIES = ["info", "low", "medium", "high", "critical"]


def _validate_host(host: str) -> None:
    try:
        normalise_host(host)
    except AddressRefused as error:
        raise ValidationError(error.detail, code=error.reason_code) from None


def _validate_ports(ports: object) -> None:
    if not isinstance(ports, list) or not 1 <= len(ports) <= 100:
        raise ValidationError("List 1 to 100 ports.")
    if any(type(port) is not int or not 1 <= port <= 65535 for port in ports) or len(set(ports)) != len(ports):
        raise ValidationError("Ports are different whole numbers from 1 to 65535.")


def _validate_engines(engines: object) -> None:
    if not isinstance(engines, dict) or not engines:
        raise ValidationError("Name at least one engine, each with its options.")
    for name, options in engines.items():
        if name not in ENGINES:
            raise ValidationError(f"There is no engine {name!r:.40}. There are: {', '.join(ENGINES)}.")
        try:
            from_json(ENGINES[name].Options, options)
        except EngineInputError as error:
            raise ValidationError(f"{name}: {error}") from None


@audited(unrecorded=("version",))
class Target(VersionedModel, TenantModel):
    """A host, and the ports of it that may be touched."""

    name = models.CharField(max_length=120)
    host = IdentifierField(max_length=253, validators=[_validate_host], help_text="a name or an address, no URL")
    ports = models.JSONField(validators=[_validate_ports], help_text="the only ports that a scan touches")
    ca_pem = models.TextField(blank=True, max_length=20_000, help_text="certificates of an authority to trust here")
    is_active = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return self.name


class AuthorizationQuerySet(TenantQuerySet):
    def valid(self) -> "AuthorizationQuerySet":
        """By the database's clock."""
        return self.filter(revoked_at=None, expires_at__gt=Now())


@audited()
class Authorization(TenantModel):
    """Proof that a target may be tested, until when and how intrusively."""

    class Method(models.TextChoices):
        STATEMENT = "statement"

    LONGEST = timedelta(days=90)

    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="authorizations")
    method = models.CharField(max_length=12, choices=Method, default=Method.STATEMENT)
    statement = models.TextField(max_length=4000, help_text="who allows the tests, and on what ground")
    intrusiveness = models.CharField(
        max_length=12, choices=[(name, name) for name in INTRUSIVENESS[:2]], default="safe_active"
    )
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = AuthorizationQuerySet.as_manager()  # type: ignore[assignment]  # narrower than the base

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"{self.target} until {self.expires_at:%Y-%m-%d}"


@audited()
class ScanProfile(TenantModel):
    """Which engines with which options."""

    name = IdentifierField(max_length=64, unique=True)
    engines = models.JSONField(validators=[_validate_engines], help_text='{"http": {}, "tls": {}}')

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name

    @property
    def intrusiveness(self) -> str:
        return max((ENGINES[name].INTRUSIVENESS for name in self.engines), key=INTRUSIVENESS.index)


class ScanCounter(models.Model):
    """One row: the number of the tenant's newest scan. Its lock orders the numbers."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    @classmethod
    def next(cls) -> int:
        """Inside the transaction that uses it."""
        cls.objects.filter(pk=1).update(number=F("number") + 1)
        return cls.objects.values_list("number", flat=True).get(pk=1)


class Scan(TenantModel):
    class State(models.TextChoices):
        QUEUED = "queued"
        BLOCKED = "blocked"
        DISPATCHED = "dispatched"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        PARTIAL = "partial"
        FAILED = "failed"

    WAITING = (State.QUEUED, State.BLOCKED, State.DISPATCHED)
    ENDED = (State.SUCCEEDED, State.PARTIAL, State.FAILED)

    number = models.PositiveBigIntegerField(unique=True, help_text="counted per tenant, shown to people")
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="scans")
    profile = models.ForeignKey(ScanProfile, on_delete=models.PROTECT, related_name="scans")
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    reason = models.CharField(max_length=40, blank=True, help_text="code: why it is blocked, partial or failed")
    progress = models.PositiveSmallIntegerField(default=0, help_text="per cent")
    message = models.CharField(max_length=200, blank=True, help_text="what it is doing")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-number"]

    def __str__(self):
        return f"scan {self.number}"


class TaskQueue(models.Model):
    """
    The outbox: this row, not Redis, says that a scan is to be run. All times are the database's.

    ``available_at`` is when a dispatcher may next take it: at once when new, after a while when it was dispatched and
    no worker came (Redis lost it), at the end of its lease when a worker took it and died.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.PositiveBigIntegerField(help_text="the scan's number")
    message_id = models.UUIDField(unique=True, default=uuid7, help_text="unique over all tenants; the RQ job's id")
    available_at = models.DateTimeField(db_default=Now())
    dispatches = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0, help_text="counts leases; writes of an older one are refused")
    lease_until = models.DateTimeField(null=True, blank=True)
    handled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["handled_at", "available_at"], name="taskqueue_open")]

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
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["scan", "engine", "fence"], name="one_run_a_lease")]

    def __str__(self):
        return f"{self.engine} of {self.scan_id}"


class Finding(VersionedModel, TenantModel):
    """A weakness at a place. The next scan that sees it updates it; ``fingerprint`` says what "it" is."""

    # What a scan notes each time that it sees it.
    UNREAD: ClassVar[frozenset[str]] = frozenset(
        {"title", "severity", "cwe", "remediation", "confidence", "last_seen_at"}
    )

    class State(models.TextChoices):
        OPEN = "open"
        FIXED = "fixed"

    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="findings")
    fingerprint = IdentifierField(max_length=64, unique=True)
    rule_key = IdentifierField(max_length=100)
    title = models.CharField(max_length=200)
    severity = models.CharField(max_length=8, choices=[(name, name) for name in SEVERITIES])
    cwe = models.PositiveIntegerField(null=True, blank=True)
    scheme = models.CharField(max_length=16, blank=True)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    method = models.CharField(max_length=16, blank=True)
    path = models.TextField(blank=True)
    parameter = models.CharField(max_length=120, blank=True)
    place = models.CharField(max_length=120, blank=True)
    remediation = models.TextField(blank=True)
    confidence = models.CharField(max_length=12, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["target", "state", "rule_key", "port"], name="finding_place")]

    def __str__(self):
        return self.title

    @staticmethod
    def fingerprint_of(*parts: object) -> str:
        """Length-prefixed, so that no two places run together. Title, severity, engine and time are no part of it."""
        encoded = [str(part).encode() for part in parts]
        return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in encoded)).hexdigest()


class Occurrence(TenantModel):
    """A run saw the finding, and this is what it saw."""

    finding = models.ForeignKey(Finding, on_delete=models.CASCADE, related_name="occurrences")
    run = models.ForeignKey(ScanRun, on_delete=models.CASCADE, related_name="occurrences")
    evidence = models.TextField(blank=True)
    seen_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["finding", "run"], name="one_occurrence_a_run")]

    def __str__(self):
        return f"{self.finding_id} in {self.run_id}"
