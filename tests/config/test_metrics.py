"""``/metrics``: for who holds its token, and the figures that docs/reference/metrics.md lists."""

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tenants.context import control_plane
from tenants.models import DatabaseServer
from tenants.notes import Dispatcher, TenantLoad
from tests.scans.test_load import plant
from tests.serving import WebServer

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "what-the-scraper-of-these-tests-holds"
SCRAPER = {"Authorization": f"Bearer {TOKEN}"}


def scrape(**headers):
    return Client().get("/metrics", headers=headers or SCRAPER)


def families():
    answer = scrape()
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {family.name: family for family in text_string_to_metric_families(answer.content.decode())}


def values(name):
    """By the values of the labels, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in families()[name].samples
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_who_holds_the_token_is_answered(acme, scheme):
    assert scrape(Authorization=f"{scheme} {TOKEN}").status_code == 200


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xe9", "\0"],
)
def test_nobody_else_is(acme, value):
    answer = scrape(Authorization=value)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.content == b"The credentials are not valid."


def same(answer):
    headers = {name: value for name, value in answer.items() if name not in ("X-Request-ID", "Date")}
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("method", ["get", "head", "post", "options"])
@pytest.mark.parametrize("headers", [SCRAPER, {}, {"Authorization": "Bearer "}], ids=["token", "nothing", "empty"])
def test_without_a_token_in_the_settings_it_is_a_page_that_nobody_has(acme, settings, method, headers):
    settings.BULKHEAD_METRICS_TOKEN = ""

    answer, missing = (getattr(Client(), method)(path, headers=headers) for path in ("/metrics", "/nothing"))

    assert same(answer) == same(missing)
    assert answer.status_code == 404


def test_it_answers_where_the_console_does_and_nowhere_else(acme, settings):
    settings.BULKHEAD_OPERATOR_HOST = "ops.example"
    settings.ALLOWED_HOSTS = ["members.example", "ops.example"]

    assert scrape(Host="ops.example", **SCRAPER).status_code == 200
    assert scrape(Host="members.example", **SCRAPER).status_code == 404


def test_a_token_that_comes_in_clear_where_tls_is_used_is_told_so_and_not_led_elsewhere(acme, settings):
    settings.SECURE_SSL_REDIRECT = True

    assert scrape().status_code == 400
    assert Client().get("/metrics", headers=SCRAPER, secure=True).status_code == 200


def test_the_figures_are_those_of_control(acme, globex):
    now = timezone.now()
    counts = {"queued": 3, "dispatched": 1, "blocked": 2, "running": 4, "overdue": 1, "quarantined": 5}
    with control_plane():
        TenantLoad.objects.create(
            tenant=acme,
            noted_at=now,
            waiting_since=now - timedelta(minutes=10),
            leased_since=now - timedelta(minutes=5),
            **counts,
        )
        TenantLoad.objects.create(tenant=globex, noted_at=now, blocked=7)

    assert values("bulkhead_scans") == {
        ("queued",): 3,
        ("dispatched",): 1,
        ("blocked",): 9,
        ("running",): 4,
        ("quarantined",): 5,
    }
    assert values("bulkhead_leases_overdue") == {(): 1}
    assert 600 <= values("bulkhead_oldest_wait_seconds")[()] < 1200
    assert 300 <= values("bulkhead_oldest_lease_seconds")[()] < 600
    assert values("bulkhead_tenant_queued_scans") == {("acme",): 3}
    assert list(values("bulkhead_tenant_oldest_wait_seconds")) == [("acme",)]
    assert values("bulkhead_dispatchers") == {(): 0}
    assert values("bulkhead_dispatcher_heard_of_timestamp_seconds") == {(): 0}


def test_a_breaker_is_counted_by_the_dispatchers_that_found_it_out(acme):
    with control_plane():
        DatabaseServer.objects.create(name="ward", engine="mysql", host="192.0.2.1", port=3306)
        for silent in (["192.0.2.1:3306"], ["192.0.2.1:3306", "192.0.2.9:3306"], []):
            Dispatcher.objects.create(id=uuid4(), noted_at=timezone.now(), silent=silent)

    found = values("bulkhead_breakers_open")

    assert (found["dispatchers", "ward"], found["this_process", "ward"]) == (2, 0)
    assert values("bulkhead_dispatchers") == {(): 3}


def test_labels_do_not_grow_with_tenants(acme):
    plant(40, queued=(1, 1), waiting_since=(timezone.now(), timedelta(seconds=-1)))

    for name in ("bulkhead_tenant_queued_scans", "bulkhead_tenant_oldest_wait_seconds"):
        assert len(values(name)) == 10
    assert values("bulkhead_scans")["queued",] == sum(range(1, 41))


def test_the_page_lists_what_is_answered_with_type_and_labels_and_no_more(acme):
    plant(1, queued=(1, 1), waiting_since=(timezone.now(), timedelta()))
    with control_plane():
        DatabaseServer.objects.create(name="ward", engine="mysql", host="192.0.2.1", port=3306)
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(bulkhead_\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"`(\w+)`:", labels))) for name, kind, _, labels in rows}

    answered = {
        name: (family.type, {label for sample in family.samples for label in sample.labels})
        for name, family in families().items()
    }

    assert listed == answered
    for name, _, unit, _ in rows:
        assert ("seconds" in unit) == name.endswith("_seconds"), name


def test_a_server_reads_the_token_from_its_environment(installation, acme, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("another-token-that-stands-in-a-file\n")
    monkeypatch.delenv("BULKHEAD_METRICS_TOKEN")
    monkeypatch.setenv("BULKHEAD_METRICS_TOKEN_FILE", str(tmp_path / "token"))
    with WebServer(installation) as web:
        assert web.status("/metrics") == 401
