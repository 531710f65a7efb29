"""What Redis keeps of a job that failed: that it did, and where. Nothing of what the exception said."""

import base64
import binascii
import secrets
import zlib

import django_rq
import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import URLPattern, get_resolver
from rq import SimpleWorker
from rq.job import Job

from scans.models import ScanProfile
from tenants.context import tenant_context
from tenants.jobs import TenantJob
from tenants.workers import TenantWorker
from tests.routes.walking import all_routes
from tests.tenants.browsing import log_in
from tests.tenants.test_jobs import broker, failed, handlers, work  # noqa: F401  fixtures

CANARY = f"canary-{secrets.token_hex(16)}"


def _raise(error):
    raise error


def say_it():
    _raise(ValueError(f"the password is {CANARY}"))


def say_it_in_its_arguments():
    _raise(KeyError("row", {"password": CANARY}))


def note_it():
    error = ValueError("broken")
    error.add_note(CANARY)
    raise error


def have_it_as_cause():
    try:
        say_it()
    except ValueError as error:
        raise RuntimeError("broken") from error


def have_it_as_context():
    try:
        say_it()
    except ValueError:
        int("broken")


def have_it_in_a_group():
    _raise(ExceptionGroup("broken", [ValueError(CANARY)]))


def meet_a_row_of_that_name():
    ScanProfile.objects.create(name=CANARY, engines={})
    with transaction.atomic():
        ScanProfile.objects.create(name=CANARY, engines={})


def raise_what_cannot_be_shown():
    class Shown(Exception):
        def __str__(self):
            raise ValueError(CANARY)

    _raise(Shown())


def leave():
    raise SystemExit(CANARY)


WAYS = [
    say_it, say_it_in_its_arguments, note_it, have_it_as_cause, have_it_as_context, have_it_in_a_group,
    meet_a_row_of_that_name, raise_what_cannot_be_shown, leave,
]  # fmt: skip


@pytest.fixture(autouse=True)
def allowed(settings):
    functions = {f"{__name__}.{way.__name__}" for way in WAYS}
    settings.BULKHEAD_JOB_FUNCTIONS = {*settings.BULKHEAD_JOB_FUNCTIONS, *functions}


def everything_in(broker):  # noqa: F811
    """Each value of each key, and what it is packed in: base64, zlib, one in the other."""
    for key in broker.keys("*"):
        read = {
            "hash": lambda key: [part for pair in broker.hgetall(key).items() for part in pair],
            "string": lambda key: [broker.get(key)],
            "list": lambda key: broker.lrange(key, 0, -1),
            "set": broker.smembers,
            "zset": lambda key: broker.zrange(key, 0, -1),
            "stream": lambda key: [part for _, entry in broker.xrange(key) for pair in entry.items() for part in pair],
        }[broker.type(key).decode()]
        for value in [key, *read(key)]:
            yield from unpacked(value)


def unpacked(value):
    yield value
    for unpack in (zlib.decompress, lambda packed: base64.b64decode(packed, validate=True)):
        try:
            inside = unpack(value)
        except (zlib.error, binascii.Error, ValueError):
            continue
        if inside:
            yield from unpacked(inside)


def in_redis(broker, text):  # noqa: F811
    return any(text.encode() in value for value in everything_in(broker))


def fail(way, worker_class):
    with tenant_context("acme"):
        job = django_rq.enqueue(way)
    work(worker_class)
    return job


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_that_an_exception_says_is_kept_in_redis(acme, broker, handlers, way):  # noqa: F811
    job = fail(way, SimpleWorker)

    assert failed(broker) == {job.id}
    assert not in_redis(broker, CANARY)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_nor_by_a_worker_that_forks(acme, broker, handlers):  # noqa: F811
    job = fail(meet_a_row_of_that_name, TenantWorker)

    assert failed(broker) == {job.id}
    assert not in_redis(broker, CANARY)


def test_rq_alone_would_keep_it_where_this_looks(acme, broker, handlers, monkeypatch):  # noqa: F811
    monkeypatch.setattr(TenantJob, "_handle_failure", Job._handle_failure)

    fail(say_it, SimpleWorker)

    assert in_redis(broker, CANARY)


def test_what_is_kept_says_of_which_kind_it_was_and_where(acme, broker, handlers):  # noqa: F811
    job = fail(have_it_as_cause, SimpleWorker)

    kept = job.latest_result().exc_string
    first, *rest = kept.splitlines()
    assert first == "builtins.RuntimeError"
    line = have_it_as_cause.__code__.co_firstlineno + 4
    assert f"  {__file__}:{line} in have_it_as_cause" in rest
    assert "builtins.ValueError" in rest
    assert IntegrityError.__name__ not in kept and len(rest) < 60


def test_no_page_of_rqs_is_mounted_for_anybody(installation):
    callbacks = {pattern.callback for name in ("config.urls", "config.workspace_urls") for pattern in _patterns(name)}

    modules = {callback.__module__.partition(".")[0] for callback in callbacks}
    assert "tenants" in modules and not {"django_rq", "rq"} & modules
    assert not [route.name for route in all_routes() if "rq" in route.name.split("/")]


def _patterns(name):
    return list(_flat(get_resolver(name)))


def _flat(resolver):
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from _flat(pattern)


PATHS = ["queues/", "workers/", "stats.json", "metrics", "jobs/", "django_rq/", "queue/", "rq/"]


@pytest.mark.parametrize("mount", ["/", "/django-rq/", "/rq/", "/operator/", "/operator/django_rq/", "/t/acme/"])
def test_where_django_rq_would_put_its_pages_there_is_nothing(installation, mount):
    client = Client()
    if mount.startswith(("/operator/", "/t/acme/")):
        log_in(client, "/operator/" if mount.startswith("/operator/") else "/t/acme/")

    answers = {mount + path: client.get(mount + path).status_code for path in PATHS}
    assert answers.pop("/metrics", 401) == 401  # ours, which wants its token
    assert set(answers.values()) == {404}
