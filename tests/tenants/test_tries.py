"""Passwords that are tried again and again: at whichever door, under whichever name, from wherever."""

import time

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tenants.accounts import tries
from tenants.context import tenant_context
from tests.installation import PASSWORD
from tests.tenants.browsing import form
from tests.tenants.states import set_state
from tests.tenants.trying import (
    API,
    ELSEWHERE,
    FAILED,
    FORM,
    HERE,
    REFUSED,
    WRONG,
    attempt,
    counted,
    let_pass,
    lock,
    opens,
    set_failures,
)

DOORS = {
    "token": (API, "acme", "alice"),
    "workspace": (FORM, "acme", "alice"),
    "operator": (FORM, "operator", "oscar"),
    "token, no tenant": (API, "nobody", "alice"),
    "workspace, no tenant": (FORM, "nobody", "alice"),
}
LETTERS = {
    "case": "ALICE",
    "a space": "alice ",
    "another script": "\u0430lice",
    "full width": "\uff41lice",
    "zero width": "al\u200bice",
    "combining": "alic\u0065\u0301",
}
FORGED = {
    "X-Forwarded-For": "203.0.113.{}",
    "Forwarded": "for=203.0.113.{}",
    "X-Real-IP": "203.0.113.{}",
    "True-Client-IP": "203.0.113.{}",
    "CF-Connecting-IP": "203.0.113.{}",
    "X-Client-IP": "203.0.113.{}",
    "X-Cluster-Client-IP": "203.0.113.{}",
    "Remote-Addr": "203.0.113.{}",
}


@pytest.mark.parametrize(("door", "tenant", "username"), DOORS.values(), ids=DOORS.keys())
def test_after_five_failures_of_an_account_nothing_is_looked_at_for_a_while(acme, hashed, door, tenant, username):
    lock(door, tenant, username)
    work = len(hashed)

    for password in (WRONG, PASSWORD):
        for address in (HERE, ELSEWHERE):
            answer = attempt(door, tenant, username, password, address)
            assert answer.status_code == REFUSED
            assert 1 <= int(answer["Retry-After"]) <= 15
            assert "Set-Cookie" not in answer
            if door == API:
                detail = "Too many tries have failed. Try again later."
                assert answer.json() == {"code": "too_many_tries", "detail": detail}
            else:
                assert b"Try again in 1 minute." in answer.content
    assert (work, len(hashed)) == (5, 5)


def test_each_further_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(acme):
    lock(API)
    waits = []
    for _ in range(8):
        waits.append(int(attempt(API)["Retry-After"]))
        let_pass("acme", waits[-1] - 3)
        assert attempt(API).status_code == REFUSED
        let_pass("acme", 3)
        assert attempt(API).status_code == 401

    assert waits == [pytest.approx(each, abs=2) for each in (15, 30, 60, 120, 240, 480, 900, 900)]


@pytest.mark.parametrize("door", [API, FORM])
def test_an_account_or_a_tenant_that_is_not_there_locks_as_one_that_is(acme, tom, globex, door):
    with tenant_context("acme"):
        get_user_model().objects.filter(pk=tom.pk).update(is_active=False)
    set_state("globex", "deleted")

    def answers(tenant, username, password=WRONG):
        given = []
        for _ in range(7):
            status, text, headers, cookies = form(attempt(door, tenant, username, password), tenant)
            if status == REFUSED:
                assert 10 <= int(headers.pop("Retry-After")) <= 15
            given.append((status, text.replace(username, "NAME"), headers, cookies))
        return given

    expected = answers("acme", "alice")
    assert [status for status, *_ in expected] == [FAILED[door]] * 5 + [REFUSED] * 2
    assert answers("acme", "somebody") == expected
    assert answers("acme", "tom", PASSWORD) == expected
    assert answers("nobody", "alice") == expected
    assert answers("globex", "mallory", PASSWORD) == expected


@pytest.mark.parametrize("username", LETTERS.values(), ids=LETTERS.keys())
def test_a_name_that_looks_alike_is_another_account_and_the_same_address(acme, username):
    lock(API, username=username)

    assert attempt(API, username=username).status_code == REFUSED
    assert opens(API)
    assert counted("acme", "address") == [5]


def test_a_name_that_a_form_reads_as_the_account_is_the_account(acme):
    for username in (" alice", "\uff41lice", "alice\u3000", "alice", "\u2003alice"):
        assert attempt(FORM, username=username).status_code == 200

    assert not opens(FORM) and not opens(API)


def test_both_doors_of_a_tenant_count_together(acme):
    lock(FORM)

    assert attempt(API).status_code == REFUSED


def test_the_same_name_in_another_plane_has_a_count_of_its_own(acme, globex):
    with tenant_context("globex"):
        get_user_model().objects.create_user("alice", PASSWORD)
    lock(API, "acme")
    lock(API, "nobody")
    lock(FORM, "nobody", "oscar")

    assert opens(API, "globex") and opens(FORM, "operator", "oscar")
    assert attempt(API, "nobodyelse").status_code == 401


def test_a_log_in_forgets_the_accounts_failures_and_not_the_addresss(acme):
    for _ in range(2):
        for _ in range(4):
            assert attempt(API).status_code == 401
        assert opens(API)

    assert counted("acme", "account") == [0]
    assert counted("acme", "address") == [8]


def test_members_who_log_in_do_not_use_up_their_address(acme):
    assert attempt(API, username="somebody").status_code == 401
    set_failures("acme", "address", 99)

    for _ in range(3):
        assert opens(API) and opens(FORM)
    assert counted("acme", "address") == [99]


@pytest.mark.parametrize(("door", "tenant", "username"), DOORS.values(), ids=DOORS.keys())
def test_after_a_hundred_failures_an_address_waits_whatever_name_it_tries(acme, hashed, door, tenant, username):
    kind = "unknown" if tenant == "nobody" else "address"
    assert attempt(door, tenant, "first").status_code == FAILED[door]
    set_failures(tenant, kind, 99)

    assert attempt(door, tenant, "second").status_code == FAILED[door]
    for name in ("third", "fourth", username):
        answer = attempt(door, tenant, name, PASSWORD)
        assert answer.status_code == REFUSED
        assert 880 <= int(answer["Retry-After"]) <= 900
    assert len(hashed) == 2
    assert attempt(door, tenant, "fifth", address=ELSEWHERE).status_code == FAILED[door]
    let_pass(tenant, 900)
    assert attempt(door, tenant, "sixth").status_code == FAILED[door]


def test_a_tenants_members_cannot_use_up_the_address_that_anothers_share(acme, globex):
    assert attempt(API, "acme", "somebody").status_code == 401
    set_failures("acme", "address", 99)
    assert [attempt(API, "acme", name).status_code for name in ("some", "body")] == [401, REFUSED]

    assert not opens(API, "acme")
    assert opens(API, "globex", "mallory") and opens(FORM, "operator", "oscar")
    assert attempt(API, "nobody").status_code == 401


@pytest.mark.parametrize("header", FORGED)
def test_a_header_does_not_make_another_address(acme, header):
    assert attempt(API, username="somebody").status_code == 401
    set_failures("acme", "address", 99)

    given = [attempt(API, username=str(n), **{header: FORGED[header].format(n)}).status_code for n in range(3)]

    assert given == [401, REFUSED, REFUSED]


@pytest.mark.parametrize(("door", "tenant", "username"), DOORS.values(), ids=DOORS.keys())
def test_a_refusal_takes_a_time_of_its_own_whatever_was_found_before(acme, monkeypatch, door, tenant, username):
    monkeypatch.setattr(tries, "STEP_SECONDS", 0.5)
    lock(door, tenant, username)
    began_at = time.monotonic()

    assert attempt(door, tenant, username).status_code == REFUSED
    assert time.monotonic() - began_at >= 0.5


@pytest.mark.parametrize(("door", "tenant", "username"), DOORS.values(), ids=DOORS.keys())
def test_so_does_a_failure(acme, monkeypatch, door, tenant, username):
    monkeypatch.setattr(tries, "STEP_SECONDS", 0.5)
    began_at = time.monotonic()

    assert attempt(door, tenant, username).status_code != REFUSED
    assert time.monotonic() - began_at >= 0.5


@pytest.mark.parametrize("slug", ["acme", "nobody"])
def test_so_does_a_log_in_by_a_provider_that_there_is_not(acme, monkeypatch, slug):
    monkeypatch.setattr(tries, "STEP_SECONDS", 0.5)
    for ask in (Client().post, Client().get):
        began_at = time.monotonic()
        door = "login" if ask.__name__ == "post" else "callback"

        assert ask(f"/t/{slug}/oidc/{door}/").status_code == 403
        assert time.monotonic() - began_at >= 0.5


def test_a_refused_try_is_not_counted(acme):
    lock(API)
    assert [attempt(API).status_code for _ in range(3)] == [REFUSED] * 3
    set_failures("acme", "address", 99)
    assert attempt(API, username="somebody").status_code == 401
    assert [attempt(API, username="another").status_code for _ in range(3)] == [REFUSED] * 3

    assert counted("acme", "account") == [1, 5]
    assert counted("acme", "address") == [100]
