"""
What the guards on querysets cost: the same work with them and without them, in turn, in one process on SQLite.

    python benchmarks/ring_two.py [ROUNDS]

Prints the median ratio of paired rounds with its quartiles. Below about 3 % nothing is resolved on a noisy machine.
"""

import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta

HOME = tempfile.TemporaryDirectory()
os.environ |= {"BULKHEAD_HOME": HOME.name, "DJANGO_SETTINGS_MODULE": "config.settings"}
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db.models import ForeignObject, Model, Subquery  # noqa: E402
from django.db.models.fields import related_lookups  # noqa: E402
from django.db.models.query import QuerySet, RawQuerySet  # noqa: E402
from django.utils import timezone  # noqa: E402

from scans.models import Authorization, Target  # noqa: E402
from tenants.accounts.models import User  # noqa: E402
from tenants.context import control_plane, tenant_context  # noqa: E402
from tenants.services import create_tenant, prepare_home  # noqa: E402

ROWS = 1000
PLACES = (QuerySet, RawQuerySet, Subquery, Model, ForeignObject, related_lookups)


def guards():
    """Each patch as (place, name, guarded, plain): what wraps came from ``tenants.querysets`` says what it wraps."""
    for place in PLACES:
        for name, value in list(vars(place).items()):
            function = value.fget if isinstance(value, property) else value
            if getattr(function, "__globals__", {}).get("__name__") == "tenants.querysets":
                plain = function.__wrapped__
                yield place, name, value, property(plain) if isinstance(value, property) else plain
    for place in (QuerySet, RawQuerySet):
        yield place, "_result_cache", vars(place)["_result_cache"], None


PATCHES = list(guards())


@contextmanager
def without_guards():
    for place, name, _, plain in PATCHES:
        setattr(place, name, plain)
    try:
        yield
    finally:
        for place, name, guarded, _ in PATCHES:
            setattr(place, name, guarded)


def work(keys, user):
    tomorrow = timezone.now() + timedelta(days=1)

    def bulk_create():
        target = Target(pk=keys[0])
        Authorization.objects.bulk_create(
            Authorization(target=target, statement="x", created_by=user, expires_at=tomorrow) for _ in range(100)
        )
        Authorization.objects.all().delete()

    return {
        "get(pk)": lambda: [Target.objects.get(pk=key) for key in keys[:200]],
        "list of 20": lambda: [list(Target.objects.filter(is_active=True).order_by("name")[:20]) for _ in range(40)],
        "filter chain, not run": lambda: [Target.objects.filter(name="x").exclude(host="y") for _ in range(500)],
        f"{ROWS} rows": lambda: list(Target.objects.all()),
        f"{ROWS} rows, iterator()": lambda: list(Target.objects.iterator()),
        "bulk_create of 100": bulk_create,
    }


def seconds(act):
    started_at = time.perf_counter()
    act()
    return time.perf_counter() - started_at


def compare(act, rounds):
    ratios = []
    for number in range(rounds + 2):
        if number % 2:
            guarded = seconds(act)
            with without_guards():
                plain = seconds(act)
        else:
            with without_guards():
                plain = seconds(act)
            guarded = seconds(act)
        ratios.append(guarded / plain)
    return statistics.quantiles(ratios[2:], n=4)


def main(rounds):
    prepare_home()
    with control_plane():
        call_command("migrate", verbosity=0)
    create_tenant(slug="acme")
    with tenant_context("acme"):
        user = User.objects.create_user("bench")
        rows = [Target(name=f"{n}", host="shop.example", ports=[443], created_by=user) for n in range(ROWS)]
        keys = [row.pk for row in Target.objects.bulk_create(rows)]
        print(f"{len(PATCHES)} guards, {rounds} paired rounds: guarded / plain, median (quartiles)")
        for name, act in work(keys, user).items():
            low, median, high = compare(act, rounds)
            print(f"  {name:<24} {median:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
