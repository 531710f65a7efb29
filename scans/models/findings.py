"""What was found, and where and when it was seen."""

import hashlib
from typing import ClassVar

from django.db import models

from scans.models.targets import Target
from scans.models.work import ScanRun
from tenants.models import IdentifierField, TenantModel
from tenants.versions import VersionedModel

SEVERITIES = ["info", "low", "medium", "high", "critical"]


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
