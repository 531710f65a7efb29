"""The operator console and the workspaces: each its own site, in one browser, on one database each."""

from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory

from tenants.accounts.sites import workspace_site
from tenants.admin import operator_site
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.tenants.browsing import COOKIES, SITES, Links, form, is_in, log_in


@pytest.fixture
def browser(acme, globex):
    return Client()


@pytest.fixture
def alice_browser(browser):
    log_in(browser, "/t/acme/")
    return browser


@pytest.mark.parametrize("site", SITES)
def test_logging_in_shows_the_site_and_logging_out_ends_it(browser, site):
    first = browser.get(site)
    answer = log_in(browser, site)

    assert (first.status_code, first["Location"]) == (302, f"{site}login/?next={site}")
    assert (answer.status_code, answer["Location"]) == (302, site)
    assert is_in(browser, site)
    assert browser.post(f"{site}logout/").status_code == 200
    assert not is_in(browser, site)


@pytest.mark.parametrize("site", SITES)
def test_cookies_are_named_and_scoped_for_their_site(browser, site):
    browser.get(f"{site}login/")
    log_in(browser, site)

    assert {name: cookie["path"] for name, cookie in browser.cookies.items()} == {
        f"sessionid_{COOKIES[site]}": site,
        f"csrftoken_{COOKIES[site]}": site,
    }
    assert browser.cookies[f"sessionid_{COOKIES[site]}"]["httponly"]
    assert {cookie["samesite"] for cookie in browser.cookies.values()} == {"Lax"}


def test_three_log_ins_stand_side_by_side_in_one_browser(browser):
    for site in SITES:
        log_in(browser, site)

    browser.post("/t/acme/logout/")

    assert {site: is_in(browser, site) for site in SITES} == {"/t/acme/": False, "/t/globex/": True, "/operator/": True}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("other", SITES)
def test_a_session_opens_its_own_site_only_under_whatever_name_it_is_sent(browser, site, other):
    log_in(browser, site)
    key = browser.cookies[f"sessionid_{COOKIES[site]}"].value
    thief = Client()
    for name in ("sessionid", *(f"sessionid_{plane}" for plane in COOKIES.values())):
        thief.cookies[name] = key

    assert is_in(thief, other) == (site == other)


@pytest.mark.parametrize("site", SITES)
def test_a_session_sent_under_djangos_own_name_opens_nothing(browser, site):
    log_in(browser, site)
    thief = Client()
    thief.cookies["sessionid"] = browser.cookies[f"sessionid_{COOKIES[site]}"].value

    assert not is_in(thief, site)


def test_a_site_serves_nobody_where_another_plane_is_bound(alice):
    request = RequestFactory().get("/")
    request.user = alice

    with tenant_context("acme"):
        in_tenant = workspace_site.has_permission(request), operator_site.has_permission(request)
    with control_plane():
        in_control = workspace_site.has_permission(request), operator_site.has_permission(request)

    assert (in_tenant, in_control) == ((True, False), (False, True))


def test_a_session_is_a_row_of_its_own_plane(alice_browser):
    rows = {}
    for slug in ("acme", "globex"):
        with tenant_context(slug):
            rows[slug] = Session.objects.count()
    with control_plane():
        rows["control"] = Session.objects.count()

    assert rows == {"acme": 1, "globex": 0, "control": 0}


@pytest.mark.parametrize("site", SITES)
def test_accounts_of_one_plane_are_unknown_in_the_others(browser, site):
    for other, username in SITES.items():
        if other != site:
            assert log_in(browser, site, username).status_code == 200
            assert not is_in(browser, site)


@pytest.mark.parametrize("site", SITES)
def test_a_form_without_its_token_is_refused(acme, globex, site):
    strict = Client(enforce_csrf_checks=True)
    token = strict.get(f"{site}login/").cookies[f"csrftoken_{COOKIES[site]}"].value

    assert log_in(strict, site).status_code == 403
    for other in SITES:
        foreign = Client(enforce_csrf_checks=True)
        foreign.cookies[f"csrftoken_{COOKIES[site]}"] = token
        answer = log_in(foreign, other, csrfmiddlewaretoken=token)
        assert answer.status_code == (302 if other == site else 403)


@pytest.mark.parametrize("site", SITES)
def test_every_link_of_a_site_leads_into_it_and_works(browser, site):
    log_in(browser, site)
    seen, todo = set(), [site]
    while todo:
        page = todo.pop()
        answer = browser.get(page)
        assert answer.status_code in (200, 302, 405), f"{page}: {answer.status_code}"
        if answer.status_code == 200 and "text/html" in answer["Content-Type"]:
            for link in Links(answer).found:
                url = urlsplit(urljoin(page, link))
                assert not url.netloc
                assert url.path.startswith((site, "/static/")), f"{page} links to {link}"
                if url.path not in seen and not url.path.endswith("/logout/"):
                    seen.add(url.path)
                    todo.append(url.path)
        answer.close()
    assert len([path for path in seen if path.startswith(site)]) >= 5
    assert "/static/tenants/console.css" in seen


def test_a_site_shows_the_models_of_its_own_plane_only(browser):
    pages = {}
    for site in SITES:
        log_in(browser, site)
        pages[site] = {link for link in Links(browser.get(site)).found if link.startswith(site)}

    assert "/operator/tenants/tenant/" in pages["/operator/"]
    assert "/t/acme/accounts/user/" in pages["/t/acme/"]
    assert not any("tenants/" in link for link in pages["/t/acme/"])
    assert browser.get("/t/acme/tenants/tenant/").status_code == 404
    assert browser.get("/operator/scans/scan/").status_code == 404


def test_a_page_names_its_tenant_to_members_and_the_operator_console_itself(browser):
    log_in(browser, "/t/acme/")
    log_in(browser, "/operator/")

    assert '<span class="plane-name">Acme</span>' in browser.get("/t/acme/").content.decode()
    assert '<span class="plane-name">Operator console</span>' in browser.get("/operator/").content.decode()
    assert '<span class="plane-name">globex</span>' in browser.get("/t/globex/login/").content.decode()


def test_an_owner_adds_a_member_in_their_own_tenant_and_the_log_says_so_there(alice_browser):
    fields = {"username": "carol", "email": "carol@acme.example", "role": "tester", "usable_password": "true"}
    passwords = {"password1": "a long enough secret", "password2": "a long enough secret"}

    answer = alice_browser.post("/t/acme/accounts/user/add/", fields | passwords)

    assert answer.status_code == 302
    assert log_in(Client(), "/t/acme/", "carol", "a long enough secret").status_code == 302
    with tenant_context("acme"):
        entry = LogEntry.objects.select_related("user", "content_type").get()
        assert (entry.user.username, entry.object_repr, entry.content_type.model) == ("alice", "carol", "user")
    with tenant_context("globex"):
        assert not LogEntry.objects.exists()
        assert not get_user_model().objects.filter(username="carol").exists()
    with control_plane():
        assert not LogEntry.objects.exists()


def test_a_tester_sees_no_accounts(browser, tom, alice):
    log_in(browser, "/t/acme/", "tom")

    assert "accounts" not in browser.get("/t/acme/").content.decode()
    for path in (
        "",
        "add/",
        f"{alice.pk}/change/",
        f"{alice.pk}/password/",
        f"{alice.pk}/delete/",
        f"{tom.pk}/change/",
    ):
        assert browser.get(f"/t/acme/accounts/user/{path}").status_code == 403


TAKEN_AWAY = {"password1": "", "password2": "", "usable_password": "false", "unset-password": ""}
REPLACED = {"password1": "another good secret", "password2": "another good secret", "usable_password": "true"}


@pytest.mark.parametrize("given", [TAKEN_AWAY, REPLACED], ids=["taken away", "replaced"])
@pytest.mark.parametrize("site", ["/t/acme/", "/operator/"])
def test_ones_own_password_is_changed_with_the_old_one_alone_and_never_taken_away(browser, acme, site, given):
    log_in(browser, site)
    with control_plane() if site == "/operator/" else tenant_context("acme"):
        pk = get_user_model().objects.get(username=SITES[site]).pk

    for page in (f"{site}accounts/user/{pk}/password/", f"{site}accounts/user/{pk.hex}/password/"):
        for answer in (browser.get(page), browser.post(page, given)):
            assert (answer.status_code, answer["Location"]) == (302, f"{site}password_change/")
    assert log_in(Client(), site).status_code == 302


def test_a_tester_changes_their_own_password(browser, tom):
    log_in(browser, "/t/acme/", "tom")
    page = browser.get("/t/acme/password_change/")
    new = {"new_password1": "another good secret", "new_password2": "another good secret"}

    answer = browser.post("/t/acme/password_change/", {"old_password": PASSWORD} | new)

    assert page.status_code == 200
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/password_change/done/")
    assert log_in(Client(), "/t/acme/", "tom", "another good secret").status_code == 302
    assert log_in(Client(), "/t/acme/", "tom").status_code == 200


def test_an_account_of_another_tenant_is_as_missing_as_one_that_never_was(alice_browser, mallory):
    missing = "01890000-0000-7000-8000-000000000000"
    for action in ("change", "delete", "history", "password"):
        foreign, never = (
            alice_browser.get(f"/t/acme/accounts/user/{pk}/{action}/", follow=True) for pk in (mallory.pk, missing)
        )
        assert (foreign.status_code, foreign.redirect_chain) == (never.status_code, never.redirect_chain)
        assert form(foreign, str(mallory.pk)) == form(never, missing)


def test_the_console_changes_no_tenant(browser, acme):
    log_in(browser, "/operator/")

    for path in ("add/", f"{acme.pk}/delete/"):
        assert browser.get(f"/operator/tenants/tenant/{path}").status_code == 403
    assert browser.post(f"/operator/tenants/tenant/{acme.pk}/change/", {"state": "suspended"}).status_code == 403
    assert "sealed" not in browser.get("/operator/tenants/databaseserver/").content.decode()


def test_a_disabled_members_open_session_opens_nothing(alice_browser, alice):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).update(is_active=False)

    assert not is_in(alice_browser, "/t/acme/")


@pytest.mark.parametrize("site", SITES)
def test_what_is_no_step_of_a_page_is_refused_in_a_sentence_of_ours(browser, site):
    log_in(browser, site)

    refused = browser.post(f"{site}second-factor/", {"step": "none"})

    assert (refused.status_code, refused["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert refused.content == b"The request is malformed."
