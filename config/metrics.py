"""``/metrics``: what the tenants' queues are like, for a Prometheus that holds ``BULKHEAD_METRICS_TOKEN``."""

import hmac

from django.conf import settings
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Gauge, generate_latest

from config.api import not_found
from tenants.context import control_plane
from tenants.exceptions import InvalidTokenError
from tenants.load import Load, read_load


@csrf_exempt  # no session opens it
def metrics(request):
    """A page that nobody has, where no token is set. Control is asked for who holds it, and for nobody else."""
    return _metrics(request) if settings.BULKHEAD_METRICS_TOKEN else not_found(request)


@require_safe
def _metrics(request):
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    is_it = hmac.compare_digest(token.strip(" ").encode(), settings.BULKHEAD_METRICS_TOKEN.encode())
    if scheme.lower() != "bearer" or not is_it:
        raise InvalidTokenError("Metrics were asked for without their token.")
    with control_plane():
        load = read_load()
    return HttpResponse(generate_latest(_registry(load)), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _registry(load: Load) -> CollectorRegistry:
    """Made anew for each answer: what is no longer among the worst is no longer there."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"bulkhead_{name}", text, labels, registry=registry)

    scans = gauge("scans", "Scans of all tenants, by what they wait for.", "state")
    for state, count in load.counts.items():
        if state != "overdue":
            scans.labels(state).set(count)
    gauge("leases_overdue", "Running scans whose worker is silent.").set(load.counts["overdue"])
    gauge("oldest_wait_seconds", "Since the oldest scan that waits was asked for.").set(load.wait_seconds)
    gauge("oldest_lease_seconds", "Since the worker took it that has held a scan for longest.").set(load.lease_seconds)
    waits = gauge("tenant_oldest_wait_seconds", "As bulkhead_oldest_wait_seconds: the ten longest.", "tenant")
    for tenant in load.longest_waits:
        waits.labels(tenant.slug).set(tenant.wait_seconds)
    depths = gauge("tenant_queued_scans", "Queued scans of a tenant: the ten with most.", "tenant")
    for tenant in load.deepest:
        depths.labels(tenant.slug).set(tenant.queued)
    gauge("tenants_late", "Tenants with work that no dispatcher has looked at when it should have.").set(load.late)
    breakers = gauge("breakers_open", "Processes that wait in vain for a database server.", "server", "seen_by")
    for breaker in load.breakers:
        breakers.labels(breaker.server, "dispatchers").set(breaker.dispatchers)
        breakers.labels(breaker.server, "this_process").set(breaker.is_open_here)
    gauge("dispatchers", "Dispatchers that were heard of within the last minute.").set(load.dispatchers)
    heard_of = gauge("dispatcher_heard_of_timestamp_seconds", "When one was heard of last; 0: none within a minute.")
    heard_of.set(load.heard_of_at.timestamp() if load.heard_of_at else 0)
    return registry
