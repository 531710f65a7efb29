"""How long somebody stays logged in to a workspace or the console."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from tenants.accounts import sessions
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.tenants.browsing import SITES, is_in, log_in

DOORS = {"/t/acme/": lambda: tenant_context("acme"), "/operator/": control_plane}
HOUR = 3600


@pytest.fixture(params=DOORS)
def door(request, acme):
    return request.param


@pytest.fixture
def browser(door):
    client = Client()
    log_in(client, door)
    return client


@pytest.fixture
def pass_time(monkeypatch, door):
    """As if so many seconds had gone by: rows of sessions are as much nearer to their end."""
    now, clock = [0.0], sessions.time.time

    class Clock:
        @staticmethod
        def time():
            return clock() + now[0]

    monkeypatch.setattr(sessions, "time", Clock)

    def pass_(seconds):
        now[0] += seconds
        with DOORS[door]():
            for row in Session.objects.all():
                Session.objects.filter(pk=row.pk).update(expire_date=row.expire_date - timedelta(seconds=seconds))

    return pass_


def expires_in(door):
    with DOORS[door]():
        return (Session.objects.get().expire_date - timezone.now()).total_seconds()


def test_a_session_that_is_not_used_for_an_hour_has_ended(browser, door, pass_time):
    assert HOUR - 60 < expires_in(door) <= HOUR
    pass_time(HOUR + 1)

    assert not is_in(browser, door)


def test_a_session_that_is_used_goes_on(browser, door, pass_time):
    for _ in range(5):
        pass_time(HOUR - 60)
        assert is_in(browser, door)


def test_a_session_ends_twelve_hours_after_its_log_in_however_much_it_is_used(browser, door, pass_time):
    for _ in range(13):
        pass_time(HOUR - 60)
        is_in(browser, door)

    assert not is_in(browser, door)
    with DOORS[door]():
        assert not Session.objects.filter(expire_date__gt=timezone.now()).exists()


def test_logging_in_again_begins_anew(browser, door, pass_time):
    for _ in range(13):
        pass_time(HOUR - 60)
        is_in(browser, door)
    log_in(browser, door)

    assert is_in(browser, door)


def test_a_session_is_written_once_a_minute_and_not_by_each_request(browser, door, pass_time):
    pass_time(30)
    before = expires_in(door)
    assert is_in(browser, door)
    unwritten = expires_in(door)
    pass_time(40)
    assert is_in(browser, door)

    assert unwritten <= before < HOUR - 20 < HOUR - 10 < expires_in(door)


def test_a_token_asks_for_no_session_whatever_cookies_come_with_it(alice_api, alice, acme, monkeypatch):
    browser = Client()
    log_in(browser, "/t/acme/")
    alice_api.cookies["sessionid"] = browser.cookies["sessionid_acme"].value
    asked = []
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", lambda session: asked.append(1) or {})

    assert (alice_api.get("/api/v1/targets/").status_code, asked) == (200, [])


def test_a_session_of_who_was_disabled_does_not_come_back_with_the_account(door, browser):
    """And nobody else's ends."""
    other, users = Client(), get_user_model().objects
    with DOORS[door]():
        users.create_user("olivia", PASSWORD, role="owner")
    log_in(other, door, "olivia")
    for is_active in (False, True):
        with DOORS[door]():
            account = users.get(username=SITES[door])
            account.is_active = is_active
            account.save(update_fields=["is_active"])

    assert (is_in(browser, door), other.get(door).status_code) == (False, 200)


def test_an_owner_disables_themselves_on_their_page(alice, monkeypatch):
    monkeypatch.setattr(sessions, "WRITTEN_EVERY_SECONDS", -1)  # each request writes its session
    with tenant_context("acme"):
        get_user_model().objects.create_user("olivia", PASSWORD, role="owner")
    browser = Client()
    log_in(browser, "/t/acme/")
    form = {"username": "alice", "role": "owner", "version": "1"}
    answer = browser.post(f"/t/acme/accounts/user/{alice.pk}/change/", form)

    assert (answer.status_code, is_in(browser, "/t/acme/")) == (302, False)
    with tenant_context("acme"):
        assert not get_user_model().objects.get(pk=alice.pk).is_active
