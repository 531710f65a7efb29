"""What a tenant may take of what all share. An operator sets it by ``limit_tenant``; the binding carries it."""

from datetime import timedelta

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Sum
from django.db.models.functions import Coalesce, Now

from scans.exceptions import ScanRefused, TooManyScans
from scans.models import Scan, ScanRun, TaskQueue
from tenants.context import current_tenant

# By name: what holds where nothing is set, and what may be set. 0 engine seconds: as many as it likes.
LIMITS = {
    "weight": (1, range(1, 101)),  # how many of its scans may wait for a worker at once: its share of the rounds
    "running_scans": (4, range(1001)),
    "queued_scans": (1000, range(1_000_001)),
    "scans_an_hour": (600, range(1_000_001)),
    "engine_seconds_a_day": (0, range(10**9)),
}


def limit(name: str) -> int:
    return current_tenant().limits.get(name, LIMITS[name][0])


def require_room_in_queue() -> None:
    """For one more scan of the bound tenant, whose counter the caller has locked. Raises ``TooManyScans``."""
    if TaskQueue.objects.filter(handled_at=None, lease_until=None).count() >= limit("queued_scans"):
        raise TooManyScans("too_many_queued", "As many scans are queued as may be.", retry_after=60)
    since = Scan.objects.filter(created_at__gt=Now() - timedelta(hours=1))
    if since.count() >= limit("scans_an_hour"):
        raise TooManyScans("too_many_an_hour", "As many scans were asked for within an hour as may be.", 300)


def has_room_to_send() -> bool:
    """Whether a dispatcher may send one more to the workers."""
    later = TaskQueue.objects.filter(handled_at=None, available_at__gt=Now())  # as is each that a worker holds
    found = later.aggregate(sent=Count("pk", filter=Q(is_sent=True)), held=Count("pk", filter=Q(lease_until__gt=Now())))
    return found["sent"] < limit("weight") and found["sent"] + found["held"] < limit("running_scans")


def require_engine_seconds() -> None:
    """Raises ``ScanRefused`` when the engines have run for as long as they may within a day."""
    if not (allowed := limit("engine_seconds_a_day")):
        return
    took = ExpressionWrapper(Coalesce("ended_at", Now()) - F("started_at"), output_field=DurationField())
    used = ScanRun.objects.filter(started_at__gt=Now() - timedelta(days=1)).aggregate(sum=Sum(took))["sum"]
    if used is not None and used.total_seconds() >= allowed:
        raise ScanRefused("engine_seconds_used", "The engines have run for as long as they may within a day.")
