"""The audit of a plane: what was done in it, by whom, in one chain of hashes. It is appended to, and never changed."""

import hashlib
import json
from datetime import UTC
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from tenants.models import TenantModel


class AuditEvent(TenantModel):
    number = models.PositiveBigIntegerField(unique=True, help_text="Counted in the plane, without a gap.")
    at = models.DateTimeField()
    action = models.CharField(max_length=40, help_text="created, changed, or the name of an event")
    resource = models.CharField(max_length=80, blank=True, help_text="accounts.user")
    object_id = models.CharField(max_length=64, blank=True, db_index=True)
    object_name = models.CharField(max_length=200, blank=True, help_text="What it was called then.")
    actor_id = models.CharField(max_length=64, blank=True, db_index=True)
    actor = models.CharField(max_length=100, blank=True)
    via = models.CharField(max_length=80, blank=True, help_text="session, token, an API key, a command, a job")
    address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    changes = models.JSONField(default=dict, help_text="field: [old, new]; of an event that is no change, its facts")
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-number"]

    def __str__(self):
        return f"{self.number} {self.action} {self.object_name}".rstrip()

    def facts(self) -> dict[str, Any]:
        """All that the hash vouches for, as plain values. The key is no part of it: ``number`` names the event."""
        names = [field.name for field in self._meta.concrete_fields if field.name not in ("id", "at", "hash")]
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        return {name: getattr(self, name) for name in names} | {"at": at}


class AuditHead(models.Model):
    """
    One row: the newest event's number and hash, and those that what has been kept begins after. Its lock orders the
    events, and with them all changes of what is audited.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)
    kept_after = models.PositiveBigIntegerField(default=0)
    kept_after_hash = models.CharField(max_length=64, blank=True)


def hash_after(previous: str, facts: dict[str, Any]) -> str:
    """SHA-256 of the hash before and the facts as JSON with sorted keys, so that anybody can check an export."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}{text}".encode()).hexdigest()


def plain(value: object) -> Any:
    """As JSON has it, and as it will be read again: dates and keys as text."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
