"""What is counted of tries: by processes in parallel, for whoever is logged in, within bounds, and without names."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import aauthenticate, authenticate
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from tenants.accounts import tries
from tenants.accounts.models import Tries
from tenants.context import tenant_context
from tenants.exceptions import TooManyTriesError
from tests.installation import PASSWORD
from tests.serving import WebServer
from tests.tenants.browsing import is_in, log_in
from tests.tenants.trying import (
    API,
    ELSEWHERE,
    FORM,
    HERE,
    REFUSED,
    WRONG,
    attempt,
    counted,
    let_pass,
    lock,
    opens,
    plane,
)


@pytest.fixture
def server(acme, installation):
    with WebServer(installation) as running:
        yield running


def test_of_wrong_passwords_in_parallel_no_more_than_the_limit_are_looked_at(server):
    with ThreadPoolExecutor(24) as pool:
        of_one = [pool.submit(server.log_in, "acme", "alice", f"{WRONG} {number}") for number in range(24)]
        answers = sorted(each.result()[0] for each in of_one)

    assert answers == [401] * 5 + [REFUSED] * 19
    assert server.log_in("acme", "alice", PASSWORD)[0] == REFUSED


@pytest.mark.parametrize("tenant", ["acme", "nobody"])
def test_names_that_are_tried_in_parallel_are_all_counted_for_their_address(server, tenant):
    with ThreadPoolExecutor(6) as pool:
        of_many = [pool.submit(server.log_in, tenant, f"user{number}", WRONG) for number in range(6)]
        answers = {each.result()[1]["code"] for each in of_many}

    assert answers == {"not_authenticated"}
    kind = "unknown" if tenant == "nobody" else "address"
    assert counted(tenant, kind)[-1] == 6


def test_a_locked_account_goes_on_where_it_is_logged_in(acme):
    tokens = attempt(API, password=PASSWORD).json()
    browser = Client()
    log_in(browser, "/t/acme/")
    lock(API, address=ELSEWHERE)

    bearer = {"Authorization": f"Bearer {tokens['access']}"}
    assert APIClient().get("/api/v1/me/", headers=bearer).status_code == 200
    assert APIClient().post("/api/v1/token/refresh/", {"refresh": tokens["refresh"]}, format="json").status_code == 200
    assert is_in(browser, "/t/acme/")
    assert change_password(browser, PASSWORD).status_code == 302


def change_password(browser, old, new="a new and rather long one", site="/t/acme/"):
    body = {"old_password": old, "new_password1": new, "new_password2": new}
    return browser.post(f"{site}password_change/", body)


@pytest.mark.parametrize("site", ["/t/acme/", "/operator/"])
def test_the_old_password_is_not_to_be_guessed_with_a_session_either(acme, hashed, site):
    browser, username = Client(), {"/t/acme/": "alice", "/operator/": "oscar"}[site]
    log_in(browser, site)
    del hashed[:]

    assert [change_password(browser, WRONG, site=site).status_code for _ in range(5)] == [200] * 5
    for password in (WRONG, PASSWORD):
        answer = change_password(browser, password, site=site)
        assert (answer.status_code, 1 <= int(answer["Retry-After"]) <= 15) == (REFUSED, True)
    assert len(hashed) == 5
    assert opens(FORM, "operator" if site == "/operator/" else "acme", username)


def test_the_right_old_password_forgets_the_wrong_ones(acme):
    browser = Client()
    log_in(browser, "/t/acme/")
    for _ in range(2):
        assert [change_password(browser, WRONG).status_code for _ in range(4)] == [200] * 4
        assert change_password(browser, PASSWORD, PASSWORD).status_code == 302


def test_a_count_that_a_transaction_could_undo_is_refused(acme):
    with tenant_context("acme"), transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        authenticate(None, username="alice", password=WRONG)


def test_what_asynchronous_code_asks_is_counted_too(acme):
    async def ask():
        async with tenant_context("acme"):
            for _ in range(5):
                assert await aauthenticate(None, username="alice", password=WRONG) is None
            with pytest.raises(TooManyTriesError):
                await aauthenticate(None, username="alice", password=PASSWORD)

    asyncio.run(ask())


@pytest.mark.parametrize("missing", [{"username": None}, {"password": None}])
def test_nobody_is_nobody_without_a_name_and_a_password(acme, missing):
    with tenant_context("acme"):
        assert authenticate(None, **({"username": "alice", "password": PASSWORD} | missing)) is None


@pytest.mark.parametrize(("tenant", "kind"), [("acme", "account"), ("nobody", "unknown")])
def test_names_that_are_made_up_fill_no_table_and_wash_no_failures_away(acme, monkeypatch, tenant, kind):
    monkeypatch.setattr(tries, "ROWS", 6)
    monkeypatch.setattr(tries, "AT_ONCE", 2)
    lock(API, tenant)
    for number in range(8):
        assert attempt(API, tenant, f"user{number}").status_code == 401

    assert len(counted(tenant, kind)) <= 6
    assert attempt(API, tenant).status_code == REFUSED


def test_what_is_old_is_removed(acme):
    lock(API)
    let_pass("acme", 24 * 3600)

    assert attempt(API, username="somebody").status_code == 401

    assert counted("acme", "account") == [1]
    assert attempt(API).status_code == 401


def test_neither_a_name_nor_a_password_is_written_down(acme, caplog):
    for tenant in ("acme", "nobody"):
        lock(API, tenant, "canary-name", password="canary-password")
        answer = attempt(API, tenant, "canary-name", "canary-password", **{"X-Request-ID": "canary-request"})
        assert (answer.status_code, answer["X-Request-ID"]) == (REFUSED, "canary-request")

    refusals = [record.getMessage() for record in caplog.records if record.name == "tenants.accounts.tries"]
    assert len(refusals) == 2 and all(HERE in line for line in refusals)
    assert "canary-name" not in caplog.text and "canary-password" not in caplog.text
    for tenant in ("acme", "control"):
        with plane(tenant):
            assert "canary" not in str(list(Tries.objects.values()))


def test_in_a_copy_of_its_database_a_name_cannot_be_looked_up_by_its_digest(acme, globex):
    for tenant in ("acme", "globex", "nobody"):
        assert attempt(API, tenant).status_code == 401
    keys = set()
    for tenant in ("acme", "globex", "control"):
        with plane(tenant):
            keys |= set(Tries.objects.values_list("key", flat=True))

    assert len(keys) == 6
