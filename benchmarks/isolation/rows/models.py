from django.conf import settings
from django.db import models
from uuid_utils.compat import uuid7


class PlainModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    class Meta:
        abstract = True


if "tenants" in settings.INSTALLED_APPS:
    from tenants.models import TenantModel as Base
else:
    Base = PlainModel


class Row(Base):
    """About what a target or a finding has."""

    name = models.CharField(max_length=120)
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    score = models.FloatField(default=0)
    note = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    made_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "rows"


class Outbox(Base):
    """As short as a task queue can be, for the dispatchers that ours is compared with."""

    message = models.CharField(max_length=36)
    is_sent = models.BooleanField(default=False)

    class Meta:
        app_label = "rows"
