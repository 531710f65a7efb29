"""Every route of a workspace and of the API, asked by an operator whom an owner has let in; and what its pages say."""

import pytest
from django.test import Client

from tenants.accounts.support import supporter
from tenants.context import tenant_context
from tests.roles.table import MEMBERS
from tests.roles.test_table import documented, rights_of
from tests.routes.asking import METHODS, ask, body_of, content, path_to
from tests.routes.walking import API, WORKSPACE, all_routes
from tests.routes.world import contents
from tests.tenants.browsing import log_in
from tests.tenants.supporting import entered, newest

UNSAFE = ["PUT", "PATCH", "DELETE", "POST"]
DOORS = ("/t/<slug>/login/", "/t/<slug>/logout/", "/t/<slug>/support/enter/")  # to be somebody else
PAGES = [route for route in all_routes() if route.mount == WORKSPACE and route.name not in DOORS]
WITHOUT_TOKEN = ("/api/v1/token/", "/api/v1/token/refresh/", "/api/v1/token/logout/")
GUARDED = [route for route in all_routes() if route.mount == API and route.name not in WITHOUT_TOKEN]
DOCUMENTS = {"/t/<slug>/scans/scan/<uuid:pk>/report.html"}  # to be saved and sent
# The session that asks; wrong passwords, and mails for a new one, which nobody has to be logged in for; refusals.
ANYBODYS = {"django_session", "accounts_tries", "accounts_maillink", "audit_auditevent", "audit_audithead"}
NEVER = {"accounts_user", "accounts_apikey", "accounts_supportaccess", "accounts_signinpolicy", "accounts_secondfactor",
         "accounts_recoverycode", "accounts_login", "accounts_identityprovider",
         "accounts_externalidentity", "scans_authorization"}  # fmt: skip


def changed_by(browser, world) -> set[str]:
    """The tables that every unsafe request together changes."""
    before = contents("acme")
    for route in PAGES:
        for method in UNSAFE:
            answer = ask(browser, method, path_to(route, world, "acme")[0], body_of(route, world, method))
            assert answer.status_code < 500, f"{method} {route.name}"
    after = contents("acme")
    return {table for table, rows in after.items() if rows != before[table]} - ANYBODYS


def test_who_may_read_changes_nothing_by_any_unsafe_request(world, alice_api):
    browser = entered(alice_api, "read")

    assert changed_by(browser, world) == set()
    assert browser.get("/t/acme/scans/target/").status_code == 200  # and was somebody all the while


def test_who_may_work_changes_no_account_no_key_no_authorization_and_no_grant(world, alice_api):
    changed = changed_by(entered(alice_api, "full"), world)

    assert {"scans_target", "scans_scanprofile"} <= changed
    assert changed & NEVER == set()


@pytest.mark.parametrize("scope", ["read", "full"])
def test_the_session_of_who_supports_opens_nothing_of_the_api(world, alice_api, scope):
    browser = entered(alice_api, scope)
    for route in GUARDED:
        for method in METHODS:
            answer = ask(browser, method, path_to(route, world, "acme")[0], body_of(route, world, method))
            assert answer.status_code == 401, f"{method} {route.name}"


@pytest.mark.parametrize("persona", ["alice", "tom", "support:oscar"])
def test_every_page_says_who_is_in_why_and_until_when(world, alice_api, persona):
    supporting = entered(alice_api, "full")
    access, browser = newest(), supporting
    if persona != "support:oscar":
        browser = Client()
        log_in(browser, "/t/acme/", persona)
    shown = []
    for route in PAGES:
        answer = browser.get(path_to(route, world, "acme")[0])
        if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
            page = content(answer)
            until = f"{access.expires_at:%Y-%m-%d %H:%M} UTC"
            said = all(text in page for text in ("support:oscar", "read and change", access.reason, until))
            assert said == (route.name not in DOCUMENTS), route.name
            shown.append(route.name)

    assert len(shown) >= 14 and "/t/<slug>/second-factor/" in shown


@pytest.mark.parametrize(("scope", "role"), [("read", "support"), ("full", "support-full")])
def test_who_supports_has_the_rights_of_their_column(alice_api, scope, role):
    entered(alice_api, scope)
    with tenant_context("acme"):
        user = supporter(newest().user_id)
        assert rights_of(user) == documented(MEMBERS, role) != set()
        assert not user.has_module_perms("auth")
