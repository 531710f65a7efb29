"""A scan's events as they happen."""

import http.client
import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from rest_framework.test import APIClient

from scans import progress
from scans.services import request_scan
from scans.states import move
from tenants import bulkheads
from tenants.accounts.models import ApiKey, Login
from tenants.context import tenant_context
from tenants.services import suspend_tenant
from tests.installation import PASSWORD
from tests.scans.rows import authorize, make_target
from tests.scans.scanning import make_profile
from tests.serving import WebServer


@pytest.fixture(autouse=True)
def _as_deployed(settings):
    settings.BULKHEAD_STREAM_SECONDS = 25


@pytest.fixture
def scan(alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return request_scan(target=target, profile=make_profile("ports"), user=alice)


def go(scan, *states, **fields):
    with tenant_context("acme"):
        for state in states:
            assert move(scan.pk, state, **fields)


def path(scan):
    return f"/api/v1/scans/{scan.pk}/events/"


def read(api, scan, after=None):
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    answer = api.get(path(scan), headers=headers)
    assert (answer.status_code, answer["Content-Type"], answer["Cache-Control"]) == (
        200,
        "text/event-stream; charset=utf-8",
        "no-store",
    )
    return parse(b"".join(answer.streaming_content).decode())


def parse(text):
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if ": " in block]
    return [(block.get("id"), block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


def states(events):
    return [(number, data["state"]) for number, kind, data in events if kind == "state"]


def test_an_ended_scan_tells_all_that_it_became_and_ends(alice_api, scan):
    go(scan, "dispatched")
    go(scan, "running", fence=1)
    go(scan, "failed", fence=1, reason="timed_out")

    events = read(alice_api, scan)

    assert states(events) == [("1", "queued"), ("2", "dispatched"), ("3", "running"), ("4", "failed")]
    assert events[0][2].keys() == {"sequence", "state", "reason", "by", "fence", "at"}
    assert (events[0][2]["by"], events[-1][2]["fence"], events[-1][2]["reason"]) == ("alice", 1, "timed_out")


@pytest.mark.parametrize(("after", "told"), [(0, 4), (1, 3), (3, 1), (4, 0), (999, 0)])
def test_who_reconnects_misses_nothing_and_hears_nothing_twice(alice_api, scan, after, told):
    go(scan, "dispatched", "running", "failed")

    assert [int(number) for number, _ in states(read(alice_api, scan, after))] == [1, 2, 3, 4][4 - told :]


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "1" * 10, "²"], ids=repr)
def test_an_id_that_is_none_is_refused(alice_api, scan, after):
    refused = alice_api.get(path(scan), headers={"Last-Event-ID": after})

    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["Last-Event-ID"])


def test_a_foreign_scan_is_a_missing_one(mallory_api, scan):
    assert mallory_api.get(path(scan)).status_code == 404


def test_a_stream_ends_after_a_while_and_the_next_goes_on(alice_api, scan, settings):
    settings.BULKHEAD_STREAM_SECONDS = 0

    first = read(alice_api, scan)
    go(scan, "dispatched")
    second = read(alice_api, scan, first[0][0])

    assert (states(first), states(second)) == ([("1", "queued")], [("2", "dispatched")])
    assert first[-1][1:] == ("progress", {"state": "queued", "progress": 0, "message": ""})


def test_a_silent_stream_shows_that_it_lives(alice_api, scan, monkeypatch):
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    answer = alice_api.get(path(scan))
    body = iter(answer.streaming_content)

    assert [next(body).decode().split("\n")[0] for _ in range(4)] == ["retry: 2000", "id: 1", "event: progress", ":"]
    answer.close()


def log_out():
    Login.objects.all().end(Login.Ending.LOGGED_OUT)


def disable():
    user = get_user_model().objects.get(username="tom")
    user.is_active = False
    user.save(update_fields=["is_active"])


@pytest.mark.parametrize("end", [log_out, disable])
def test_a_stream_ends_with_the_log_in_that_opened_it(tom_api, scan, monkeypatch, end):
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.05)
    body = iter(tom_api.get(path(scan)).streaming_content)
    for _ in range(3):
        next(body)
    with tenant_context("acme"):
        end()

    assert list(body) == []


def test_a_stream_ends_when_its_tenant_is_suspended(alice_api, scan, monkeypatch):
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.05)
    body = iter(alice_api.get(path(scan)).streaming_content)
    for _ in range(3):
        next(body)
    suspend_tenant(slug="acme")

    assert list(body) == []


def test_a_stream_ends_with_the_key_that_opened_it(alice_api, scan, monkeypatch):
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.05)
    asked = {"name": "CI", "scope": "read", "expires_at": timezone.now() + timedelta(days=1)}
    key = alice_api.post("/api/v1/api-keys/", asked).json()["key"]
    body = iter(APIClient(headers={"Authorization": f"Bearer {key}"}).get(path(scan)).streaming_content)
    for _ in range(3):
        next(body)
    with tenant_context("acme"):
        ApiKey.objects.update(revoked_at=timezone.now())

    assert list(body) == []


def test_a_tenant_has_so_many_streams_at_once_and_leaves_room_for_others(alice_api, mallory_api, scan, settings):
    settings.BULKHEAD_THREADS = 16  # four places, and half of them for streams
    streams = [alice_api.get(path(scan)) for _ in range(2)]

    refused = alice_api.get(path(scan))

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (503, "too_busy", "5")
    for stream in (streams[0], streams[0]):
        stream.close()  # before it was read, and twice
    again = alice_api.get(path(scan))
    assert again.status_code == 200
    for stream in (*streams, again):
        stream.close()
    assert progress._open == bulkheads._held == {}


def test_a_stream_holds_one_of_its_tenants_places(alice_api, mallory_api, scan, settings):
    settings.BULKHEAD_THREADS = 4
    stream = alice_api.get(path(scan))

    refused = alice_api.get("/api/v1/me/")

    assert (refused.status_code, refused.json()["code"]) == (503, "too_busy")
    assert mallory_api.get("/api/v1/me/").status_code == 200
    stream.close()
    assert alice_api.get("/api/v1/me/").status_code == 200


def test_a_real_server_tells_each_state_as_it_comes(installation, scan):
    """Over a connection that stays open: what is told before the scan has ended is received before it has."""
    with WebServer(installation, BULKHEAD_STREAM_SECONDS="25") as web:
        token = web.log_in("acme", "alice", PASSWORD)[1]["access"]
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
        connection.request("GET", path(scan), headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        for state in ("queued", "dispatched", "running", "cancelling", "cancelled"):
            if state != "queued":
                go(scan, state)
            assert read_until(answer, b"event: state") == state
        assert read_until(answer, b"event: state") is None
        connection.close()


def read_until(answer, event):
    for line in answer:
        if line.strip() == event:
            return json.loads(answer.readline().removeprefix(b"data: "))["state"]
    return None
