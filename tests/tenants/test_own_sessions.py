"""What people see of their own open sessions and log-ins, and which of them they end."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import Client
from rest_framework.test import APIClient

from tenants.accounts.models import Login
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.tenants.browsing import SITES, is_in, log_in
from tests.tenants.enrolling import browser_of
from tests.tenants.trying import WRONG

ACME = "/t/acme/"


def page_of(browser, site=ACME, **sent):
    answer = browser.post(f"{site}open-sessions/", sent) if sent else browser.get(f"{site}open-sessions/")
    return answer.content.decode()


def offered(browser, site=ACME):
    """What can be ended, by its name in the form."""
    return re.findall(r'name="end" value="([\w-]+)" id="end-(?!others)', page_of(browser, site))


def refresh(tokens):
    return APIClient().post("/api/v1/token/refresh/", {"refresh": tokens["refresh"]}, format="json")


@pytest.fixture
def here(acme, globex):
    return browser_of(ACME, "alice")


@pytest.fixture
def tokens(alice):
    body = {"tenant": "acme", "username": "alice", "password": PASSWORD}
    return APIClient().post("/api/v1/token/", body, format="json").json()


@pytest.mark.parametrize("site", ["/t/acme/", "/operator/"])
def test_people_see_their_own_open_sessions_and_no_others(acme, site):
    with control_plane() if site == "/operator/" else tenant_context("acme"):
        get_user_model().objects.create_user("olga", PASSWORD)
    browser = browser_of(site, SITES[site])
    browser_of(site, "olga")
    alone = offered(browser, site)
    browser_of(site, SITES[site])
    page = page_of(browser, site)

    assert (alone, len(offered(browser, site)), page.count("<td>this one")) == ([], 1, 1)
    with control_plane() if site == "/operator/" else tenant_context("acme"):
        keys = Session.objects.values_list("session_key", flat=True)
        assert len(keys) == 3 and not any(key in page for key in keys)


def test_one_session_ends_and_the_others_go_on(here):
    there, third = browser_of(ACME, "alice"), browser_of(ACME, "alice")
    name, _ = offered(here)

    page = page_of(here, end=name, password=PASSWORD)
    assert "Ended: 1" in page and name not in page
    assert [is_in(each, ACME) for each in (here, there, third)] == [True, False, True]


def test_one_log_in_of_the_api_ends(here, tokens):
    with tenant_context("acme"):
        (login,) = Login.objects.all()
        other = Login.objects.create(user=login.user)

    assert offered(here) == [str(login.pk), str(other.pk)]
    assert "Ended: 1" in page_of(here, end=str(login.pk), password=PASSWORD)
    assert refresh(tokens).status_code == 401 and offered(here) == [str(other.pk)]
    assert is_in(here, ACME)


def test_all_others_end_together_and_it_is_recorded(here, tokens):
    there, tom = browser_of(ACME, "alice"), browser_of(ACME, "tom")

    assert "Ended: 2" in page_of(here, end="others", password=PASSWORD)
    assert [is_in(here, ACME), is_in(there, ACME), tom.get(ACME).status_code] == [True, False, 200]
    assert refresh(tokens).status_code == 401
    with tenant_context("acme"):
        event = AuditEvent.objects.get(action="sessions_ended")
    assert (event.actor, event.object_name, event.changes) == ("alice", "alice", {"sessions": 1, "log_ins": 1})


def test_what_is_anothers_or_this_one_or_over_does_not_end(here, tom_api):
    tom = browser_of(ACME, "tom")
    browser_of(ACME, "tom")
    with tenant_context("acme"):
        (login,) = Login.objects.filter(user__username="tom")
    (toms,) = [name for name in offered(tom) if name != str(login.pk)]
    (mine,) = offered(browser_of(ACME, "alice"))

    for name in (toms, str(login.pk), mine, "0" * 32):
        assert "nothing to end" in page_of(here, end=name, password=PASSWORD)
    with tenant_context("acme"):
        assert not AuditEvent.objects.filter(action="sessions_ended").exists()
    assert tom.get(ACME).status_code == 200 and is_in(here, ACME)


@pytest.mark.parametrize("password", [WRONG, ""])
def test_ending_takes_the_password(here, password):
    there = browser_of(ACME, "alice")

    assert "Ended" not in page_of(here, end="others", password=password)
    assert is_in(there, ACME)


def test_wrong_passwords_are_counted_there_too(here):
    answers = [here.post(f"{ACME}open-sessions/", {"end": "others", "password": WRONG}) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


def test_a_session_that_a_new_password_has_ended_is_not_listed(here):
    browser_of(ACME, "alice")
    with tenant_context("acme"):
        alice = get_user_model().objects.get(username="alice")
        alice.set_password("another good secret")
        alice.save(update_fields=["password"])
    browser = Client()
    log_in(browser, ACME, password="another good secret")

    assert offered(browser) == []
