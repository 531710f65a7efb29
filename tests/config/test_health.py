"""What a load balancer hears of a process and of the parts that it needs."""

import pytest
from django.conf import settings
from django.test import Client


def test_a_process_is_alive_without_any_database():
    answer = Client().get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_says_how_the_parts_are_and_nothing_of_tenants(installation):
    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"control": "ok", "redis": "ok"})


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nowhere/redis.sock"])
def test_without_redis_scans_are_still_accepted(installation, monkeypatch, url):
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(settings.RQ_QUEUES["default"], "URL", url)
        answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"control": "ok", "redis": "unavailable"})


def test_without_the_control_database_nobody_is_served(installation, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(settings.DATABASES["control"], "NAME", "/nowhere/at-all")
        answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()["control"]) == (503, "unavailable")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_neither_does_anything_but_answer(installation, path):
    assert Client().head(path).status_code == 200
    assert Client().post(path).status_code == 405
