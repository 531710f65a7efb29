"""The log-in pages: where they lead, and what they tell of tenants that are unknown, suspended or in maintenance."""

import pytest
from django.test import Client

from tests.installation import PASSWORD
from tests.tenants.browsing import form, is_in, log_in
from tests.tenants.states import set_state


@pytest.fixture
def browser(acme, globex):
    return Client()


@pytest.fixture
def alice_browser(browser):
    log_in(browser, "/t/acme/")
    return browser


OUTSIDE = ["/t/globex/", "/operator/", "/", "//evil.example/", "https://evil.example/t/acme/", "/t/acme/../globex/",
    "/t/acme/%2e%2e/globex/", "/t/acme/..%2fglobex/", "/t/acme/\\..\\..\\operator/", "/\\evil.example", "/t/acme",
    "t/globex/", "/t/acmeglobex/", "javascript:alert(1)", "\t//evil.example", "/t/acme/.\t./globex/",
    "/t/./acme/../globex/"]  # fmt: skip


@pytest.mark.parametrize("target", OUTSIDE)
@pytest.mark.parametrize("where", ["body", "query"])
def test_a_log_in_leads_nowhere_but_into_its_own_mount(browser, target, where):
    answer = log_in(browser, "/t/acme/", **({"next": target} if where == "body" else {"query": target}))

    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/")


def test_a_log_in_leads_to_where_the_visitor_was_going(browser):
    answer = log_in(browser, "/t/acme/", next="/t/acme/accounts/user/?q=tom")

    assert answer["Location"] == "/t/acme/accounts/user/?q=tom"


@pytest.mark.parametrize("target", ["/t/globex/", "//evil.example/", "/operator/"])
def test_a_log_out_leads_nowhere_but_into_its_own_mount(alice_browser, target):
    answer = alice_browser.post("/t/acme/logout/", {"next": target})

    assert answer.status_code == 200 or answer["Location"] == "/t/acme/"


@pytest.mark.parametrize("known", ["active", "suspended"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client, site: client.get(site),
        lambda client, site: client.get(f"{site}login/"),
        lambda client, site: client.get(f"{site}login/?next={site}accounts/user/"),
        lambda client, site: client.get(f"{site}accounts/user/"),
        lambda client, site: client.get(f"{site}nothing/"),
        lambda client, site: client.get(f"{site}logout/"),
        lambda client, site: client.get(f"{site}jsi18n/"),
        lambda client, site: client.post(f"{site}logout/"),
        lambda client, site: client.post(f"{site}login/", {"username": "alice", "password": "wrong"}),
        lambda client, site: client.post(f"{site}login/", {"username": "somebody", "password": PASSWORD}),
        lambda client, site: client.post(f"{site}login/", {"username": "", "password": ""}),
        lambda client, site: client.post(f"{site}login/", {"username": "al\0ice", "password": "\0"}),
        lambda client, site: client.post(f"{site}login/", {"username": "a" * 9999, "password": "b" * 9999}),
        lambda client, site: client.post(f"{site}login/", {"username": "a", "password": "b", "next": "/operator/"}),
        lambda client, site: client.post(f"{site}accounts/user/add/", {}),
        lambda client, site: client.post(f"{site}password_change/", {}),
    ],
)
def test_an_unknown_slug_cannot_be_told_from_a_tenant(acme, known, ask):
    set_state("acme", known)
    for state in ("unknown", "provisioning", "deleted") if known == "active" else ("unknown",):
        unknown = "nobody" if state == "unknown" else "globex"
        if state != "unknown":
            set_state("globex", state)
        answers = [form(ask(Client(), f"/t/{slug}/"), slug) for slug in ("acme", unknown)]
        assert answers[0] == answers[1]


def test_the_right_password_of_nobodys_tenant_fails(browser):
    assert log_in(browser, "/t/nobody/", "alice").status_code == 200
    assert "sessionid_nobody" not in browser.cookies


def test_a_suspended_tenants_member_is_told_so_after_the_right_password_only(browser):
    set_state("acme", "suspended")

    assert log_in(browser, "/t/acme/", password="wrong").status_code == 200
    answer = log_in(browser, "/t/acme/")

    assert answer.status_code == 403
    assert "suspended" in answer.content.decode()
    assert "sessionid_acme" not in browser.cookies


def test_an_open_session_of_a_suspended_tenant_opens_nothing_until_it_is_resumed(alice_browser):
    set_state("acme", "suspended")
    while_suspended = is_in(alice_browser, "/t/acme/")
    set_state("acme", "active")

    assert (while_suspended, is_in(alice_browser, "/t/acme/")) == (False, True)


@pytest.mark.parametrize("path", ["", "login/", "accounts/user/", "logout/", "jsi18n/"])
def test_a_workspace_in_maintenance_is_unavailable(alice_browser, path):
    set_state("acme", "maintenance")

    for answer in (alice_browser.get(f"/t/acme/{path}"), alice_browser.post(f"/t/acme/{path}")):
        assert answer.status_code == 503
        assert "Retry-After" in answer
