"""What dispatchers note in control for operators to read. Nothing is decided by it."""

from django.db import models


class TenantLoad(models.Model):
    """
    A tenant's jobs, as a dispatcher has last found them; ``noted_at``: since when they are like that. No row: none.

    Some seconds old, and as old as that if no dispatcher runs: see ``Dispatcher``.
    """

    tenant = models.OneToOneField("tenants.Tenant", on_delete=models.CASCADE, primary_key=True, related_name="load")
    queued = models.PositiveIntegerField(default=0, help_text="accepted, and due")
    dispatched = models.PositiveIntegerField(default=0, help_text="to the workers, and taken by none yet")
    blocked = models.PositiveIntegerField(default=0, help_text="may not run as things are")
    running = models.PositiveIntegerField(default=0)
    overdue = models.PositiveIntegerField(default=0, help_text="of those that run: their worker is silent")
    quarantined = models.PositiveIntegerField(default=0, help_text="ended their workers, and were not tried again")
    waiting_since = models.DateTimeField(null=True, help_text="the oldest that is queued or dispatched")
    leased_since = models.DateTimeField(null=True, help_text="the oldest lease of those that run")
    noted_at = models.DateTimeField()

    COUNTS = ("queued", "dispatched", "blocked", "running", "overdue", "quarantined")
    FIGURES = (*COUNTS, "waiting_since", "leased_since")

    def __str__(self):
        return f"{self.tenant_id}: {self.queued} queued, {self.running} running"


class Dispatcher(models.Model):
    """A dispatcher that runs, until it ends or is not heard of any more; and the servers that it waits for in vain."""

    id = models.UUIDField(primary_key=True, editable=False)
    silent = models.JSONField(default=list, help_text="host:port")
    noted_at = models.DateTimeField()

    def __str__(self):
        return f"{self.id}, {self.noted_at}"
