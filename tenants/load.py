"""
How much work all tenants have, for operators: noted by who looks at tenants anyway, and read from control alone.

So reading it costs the same for ten thousand tenants, and waits for no tenant's database.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, ExpressionWrapper, Min, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone

from tenants.breakers import silent_servers
from tenants.context import control_plane
from tenants.models import DatabaseServer, Tenant
from tenants.notes import Dispatcher, TenantLoad

WORST = 10
LATE_SECONDS = 15  # after which a hint that is due waits for a dispatcher that is not there, or does not get on
HEARD_OF_SECONDS = 60  # a dispatcher that has noted nothing for longer has ended, or hangs
KEPT_SECONDS = 60  # rows of tenants without work, which tell a late note that it is one
AT_ONCE = 500

Measured = tuple[float, Mapping[str, Any]]  # by time.monotonic(), and the figures


def _ago(seconds: float) -> ExpressionWrapper:
    return ExpressionWrapper(Now() - timedelta(seconds=seconds), output_field=DateTimeField())


def _with_work() -> QuerySet[TenantLoad]:
    return TenantLoad.objects.exclude(**dict.fromkeys(TenantLoad.COUNTS, 0))


def note_loads(measured: Mapping[UUID, Measured]) -> None:
    """What differs from what control has, and was measured after that: others may have noted since. Unbound."""
    each = iter(measured.items())
    while few := dict(islice(each, AT_ONCE)):
        with control_plane():
            _note(few)


def _note(measured: Mapping[UUID, Measured]) -> None:
    known = {row.pk: row for row in TenantLoad.objects.filter(pk__in=list(measured)).annotate(now=Now())}
    new, changed = [], []
    for pk, (at, figures) in measured.items():
        age = time.monotonic() - at
        if (row := known.get(pk)) is None:
            new.append(TenantLoad(tenant_id=pk, **figures, noted_at=_ago(age)))
            continue
        measured_at = row.now - timedelta(seconds=age)
        if row.noted_at < measured_at and any(getattr(row, name) != value for name, value in figures.items()):
            for name, value in figures.items():
                setattr(row, name, value)
            row.noted_at = measured_at
            changed.append(row)
    if new:
        TenantLoad.objects.bulk_create(new, ignore_conflicts=True)
    if changed:
        TenantLoad.objects.bulk_update(changed, [*TenantLoad.FIGURES, "noted_at"])


def tenants_with_work() -> set[UUID]:
    """By what is noted."""
    with control_plane():
        return set(_with_work().values_list("pk", flat=True))


def note_dispatcher(process: UUID) -> None:
    """That it runs. And takes away what is out of date: of dispatchers that were killed, of tenants without work."""
    with control_plane():
        fields = {"noted_at": Now(), "silent": silent_servers()}
        if not Dispatcher.objects.filter(pk=process).update(**fields):
            Dispatcher.objects.create(pk=process, **fields)
        Dispatcher.objects.filter(noted_at__lt=_ago(HEARD_OF_SECONDS)).delete()
        TenantLoad.objects.filter(**dict.fromkeys(TenantLoad.COUNTS, 0), noted_at__lt=_ago(KEPT_SECONDS)).delete()


def note_end(process: UUID) -> None:
    with control_plane():
        Dispatcher.objects.filter(pk=process).delete()


@dataclass(frozen=True)
class Worst:
    slug: str
    queued: int
    wait_seconds: float
    noted_at: datetime


@dataclass(frozen=True)
class Breaker:
    """Who waits in vain for a database server: so many dispatchers, and whether this process does."""

    server: str
    dispatchers: int
    is_open_here: bool


@dataclass(frozen=True)
class Load:
    counts: dict[str, int]  # by TenantLoad.COUNTS
    wait_seconds: float
    lease_seconds: float
    late: int  # tenants whose hint is due for longer than a dispatcher takes
    longest_waits: list[Worst]
    deepest: list[Worst]
    breakers: list[Breaker]
    dispatchers: int
    heard_of_at: datetime | None


def read_load() -> Load:
    """In control: six statements, however many tenants there are. Of active tenants alone."""
    now, active = timezone.now(), TenantLoad.objects.filter(tenant__state=Tenant.State.ACTIVE)
    sums = {name: Sum(name, default=0) for name in TenantLoad.COUNTS}
    totals = active.aggregate(waiting=Min("waiting_since"), leased=Min("leased_since"), **sums)
    late = Tenant.objects.filter(state=Tenant.State.ACTIVE, look_at__lt=_ago(LATE_SECONDS))
    dispatchers = list(Dispatcher.objects.filter(noted_at__gte=_ago(HEARD_OF_SECONDS)).order_by("noted_at"))
    return Load(
        counts={name: totals[name] for name in TenantLoad.COUNTS},
        wait_seconds=_seconds(totals["waiting"], now),
        lease_seconds=_seconds(totals["leased"], now),
        late=late.count(),
        longest_waits=_worst(active.exclude(waiting_since=None).order_by("waiting_since", "tenant__slug"), now),
        deepest=_worst(active.filter(queued__gt=0).order_by("-queued", "tenant__slug"), now),
        breakers=list(_breakers(dispatchers)),
        dispatchers=len(dispatchers),
        heard_of_at=dispatchers[-1].noted_at if dispatchers else None,
    )


def _seconds(since: datetime | None, now: datetime) -> float:
    """Never below 0: each server has a clock of its own."""
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def _worst(loads: QuerySet[TenantLoad], now: datetime) -> list[Worst]:
    rows = loads.values_list("tenant__slug", "queued", "waiting_since", "noted_at")[:WORST]
    return [Worst(slug, queued, _seconds(since, now), noted_at) for slug, queued, since, noted_at in rows]


def _breakers(dispatchers: list[Dispatcher]) -> Iterator[Breaker]:
    here = set(silent_servers())
    for server in DatabaseServer.objects.filter(engine=DatabaseServer.Engine.MYSQL).order_by("name"):
        address = f"{server.host}:{server.port}"
        yield Breaker(server.name, sum(address in each.silent for each in dispatchers), address in here)
