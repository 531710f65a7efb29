"""What load balancers ask. Neither answer says anything of a tenant."""

import django_rq
from django.db import DatabaseError
from django.http import JsonResponse
from redis import RedisError

from tenants.models import RegistryRevision


def alive(request):
    """This process answers."""
    return JsonResponse({"status": "ok"})


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
        django_rq.get_connection("default").ping()
    except (RedisError, OSError):
        parts["redis"] = "unavailable"
    return JsonResponse(parts, status=200 if parts["control"] == "ok" else 503)
