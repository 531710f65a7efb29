"""How often one account may ask, by whatever door, and that nobody else is stopped by it."""

import pytest
from django.test import Client

from config import throttles
from tenants.context import tenant_context
from tests.conftest import api_client
from tests.tenants.browsing import log_in

ME = "/api/v1/me/"


@pytest.fixture
def clock(monkeypatch):
    """At the beginning of a minute, where it stays until it is told."""

    class Clock:
        now = 1_000_000_020.0

        @classmethod
        def time(cls):
            return cls.now

    monkeypatch.setattr(throttles, "time", Clock)
    return Clock


@pytest.fixture(autouse=True)
def three_a_minute(settings, clock):
    settings.BULKHEAD_REQUESTS_PER_MINUTE = 3


def statuses(client, times, path=ME):
    return [client.get(path).status_code for _ in range(times)]


def one_process(*clients):
    """Clients of Django's each load the middleware by themselves: here they are of one process."""
    clients[0].get("/healthz")
    for client in clients:
        client.handler = clients[0].handler
    return clients


def test_an_account_that_asks_too_often_is_told_when_it_may_again(alice_api, clock):
    clock.now += 12.5
    assert statuses(alice_api, 3) == [200] * 3

    answer = alice_api.get(ME)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert answer["Retry-After"] == "48"
    clock.now += 48
    assert statuses(alice_api, 4) == [200, 200, 200, 429]


def test_what_is_refused_does_nothing(alice_api):
    statuses(alice_api, 3)

    target = {"name": "new", "host": "new.example.com", "ports": [80]}
    assert alice_api.post("/api/v1/targets/", target).status_code == 429


def test_doors_of_one_account_count_together(acme, alice, alice_api):
    browser, token = one_process(Client(), alice_api)
    log_in(browser, "/t/acme/")  # nobody yet: not counted
    assert browser.get("/t/acme/").status_code == 200
    assert statuses(token, 3) == [200, 200, 429]
    answer = browser.get("/t/acme/")
    assert (answer.status_code, answer["Content-Type"]) == (429, "text/plain; charset=utf-8")


def test_another_member_another_tenant_and_nobody_go_on(alice, tom, mallory, acme):
    clients = one_process(*(api_client(slug, user) for slug, user in
                            (("acme", alice), ("acme", tom), ("globex", mallory))), Client())  # fmt: skip
    statuses(clients[0], 4)

    assert [client.get(ME).status_code for client in clients] == [429, 200, 200, 401]
    assert statuses(clients[3], 5, "/api/v1/targets/") == [401] * 5
    assert statuses(clients[3], 5, "/t/acme/login/") == [200] * 5


def test_the_same_key_in_another_tenant_is_another_account(alice, globex):
    with tenant_context("globex"):
        twin = type(alice).objects.create(pk=alice.pk, username="twin", role="owner")
    here, there = one_process(api_client("acme", alice), api_client("globex", twin))
    statuses(here, 4)

    assert [client.get(ME).status_code for client in (here, there)] == [429, 200]


def test_without_a_limit_nobody_is_counted(alice_api, settings):
    settings.BULKHEAD_REQUESTS_PER_MINUTE = 0

    assert set(statuses(alice_api, 20)) == {200}
