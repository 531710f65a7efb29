"""
One of the processes that are compared: reads ``[operation, argument]`` as JSON from each line of its input, and answers
each with the seconds it took, or with the figure asked for.

Under the product's settings, tenants are bound; under plain ones, each query names its alias.
"""

import gc
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402

from benchmarks.isolation.rows.models import Row  # noqa: E402

HAS_TENANTS = "tenants" in settings.INSTALLED_APPS
if HAS_TENANTS:
    from rest_framework_simplejwt.backends import TokenBackend
    from rest_framework_simplejwt.tokens import AccessToken

    from tenants.context import tenant_context
    from tenants.registry import registry
    from tenants.tokens import ALGORITHM, AUDIENCE, _issuer, _key, _named_key, verify

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS[os.environ["BENCHMARK_CLOCK"]]
about = json.loads((Path(os.environ["BULKHEAD_HOME"]) / "about.json").read_text())
keys, slugs = about["keys"], about["slugs"]


def bound(slug):
    return tenant_context(slug) if HAS_TENANTS else nullcontext()


def rows(slug="acme"):
    return Row.objects if HAS_TENANTS else Row.objects.using(slug)


def timed(act):
    gc.collect()
    gc.disable()
    started_at = clock()
    act()
    seconds = clock() - started_at
    gc.enable()
    return seconds


def in_acme(act):
    def run(repeat):
        with bound("acme"):
            return timed(lambda: act(repeat))

    return run


def get(repeat):
    for key in keys[:repeat]:
        rows().get(pk=key)


def list_20(repeat):
    for _ in range(repeat):
        list(rows().filter(is_active=True).order_by("name")[:20])


def load_all(repeat):
    for _ in range(repeat):
        list(rows().all())


def bulk_create(repeat):
    with bound("acme"):
        new = [[Row(name="new", host="x.example", port=n) for n in range(100)] for _ in range(repeat)]
        seconds = timed(lambda: [rows().bulk_create(each) for each in new])
        rows().filter(name="new").delete()
        return seconds


def switch(tenants):
    """A query in another tenant each time, their connections kept."""
    return timed(lambda: [one_query(slugs[n % tenants]) for n in range(200)])


def one_query(slug):
    with bound(slug):
        rows(slug).get(pk=keys[0])


def miss(repeat):
    """A query in another tenant each time, on a new connection each time."""
    missed = iter(range(repeat * 10))

    def run():
        for _ in range(repeat):
            slug = slugs[next(missed) % len(slugs)]
            one_query(slug)
            if not HAS_TENANTS:
                connections[slug].close()

    return timed(run)


def request(repeat, credential="token"):
    client = Client(SERVER_NAME="localhost", headers={"Authorization": f"Bearer {about[credential]}"})

    def run():
        for _ in range(repeat):
            assert client.get("/api/v1/me/").status_code == 200

    return timed(run)


def verify_ours(repeat):
    return timed(lambda: [verify(about["token"]) for _ in range(repeat)])


def verify_stock(repeat):
    """simplejwt's own class and backend, told that one key, audience and issuer."""
    record, number = _named_key(about["token"])
    names = {"audience": AUDIENCE, "issuer": _issuer(record.snapshot.id.hex)}

    class Stock(AccessToken):
        _token_backend = TokenBackend(ALGORITHM, signing_key=_key(record, number), **names)

    assert Stock(about["token"]).payload == verify(about["token"])
    return timed(lambda: [Stock(about["token"]) for _ in range(repeat)])


def memory(tenants):
    """Bytes of this process, after queries in so many tenants, three times around."""
    for slug in slugs[:tenants] * 3:
        one_query(slug)
    gc.collect()
    if HAS_TENANTS and tenants > 1:
        assert len(registry._records) >= tenants
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


OPERATIONS = {
    "get": in_acme(get),
    "list": in_acme(list_20),
    "load": in_acme(load_all),
    "bulk_create": bulk_create,
    "switch": switch,
    "miss": miss,
    "request": request,
    "request by API key": lambda repeat: request(repeat, "api_key"),
    "verify": verify_ours,
    "verify, stock": verify_stock,
    "memory": memory,
}

if __name__ == "__main__":
    for line in sys.stdin:
        operation, argument = json.loads(line)
        sys.stdout.write(json.dumps(OPERATIONS[operation](argument)) + "\n")
        sys.stdout.flush()
