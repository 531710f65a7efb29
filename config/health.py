"""What load balancers ask. Neither answer says anything of a tenant."""

from django.conf import settings
from django.db import DatabaseError
from django.http import JsonResponse
from django.views.decorators.http import require_safe
from redis import Redis, RedisError

from tenants.models import RegistryRevision

REDIS_SECONDS = 1.0


@require_safe
def alive(request):
    """This process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request):
    """
    The control database can be read. Redis is reported and not required: without it scans are still accepted.
    """
    parts = {"control": "ok", "redis": "ok"}
    try:
        RegistryRevision.objects.exists()
    except DatabaseError:
        parts["control"] = "unavailable"
    try:
        url = settings.RQ_QUEUES["default"]["URL"]
        with Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS) as redis:
            redis.ping()
    except (RedisError, OSError):
        parts["redis"] = "unavailable"
    return JsonResponse(parts, status=200 if parts["control"] == "ok" else 503)
