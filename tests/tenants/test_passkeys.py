"""Passkeys: what they open, whose they are, and what is kept and said of them."""

import json
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from tenants.accounts import passkey_registration, passkeys, second_factor, tries
from tenants.accounts.models import Passkey, SupportAccess
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.tenants.authenticators import (
    RS256,
    Authenticator,
    EdDSA,
    begin,
    log_in,
    opens,
    options_for,
    page,
    register,
    send,
    show,
)
from tests.tenants.browsing import COOKIES, is_in
from tests.tenants.browsing import log_in as log_in_with_password
from tests.tenants.enrolling import Clock, browser_of, enrol, post
from tests.tenants.states import set_state
from tests.tenants.trying import WRONG, counted, let_pass, plane, set_failures

ACME, GLOBEX, OPERATOR = "/t/acme/", "/t/globex/", "/operator/"
SITES = {ACME: "alice", OPERATOR: "oscar"}


def plane_of(site):
    return plane(COOKIES[site])


@pytest.fixture
def alice_browser(acme):
    return browser_of(ACME, "alice")


@pytest.fixture
def key(alice_browser):
    return register(alice_browser, ACME)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(second_factor, "time", clock)
    return clock


@pytest.fixture
def later(monkeypatch):
    """Passkeys' own clock, which goes on when it is told to."""

    class Later:
        gone = 0

        def time(self):
            return time.time() + self.gone

    clock = Later()
    monkeypatch.setattr(passkeys, "time", clock)
    monkeypatch.setattr(passkey_registration, "time", clock)
    return clock


def ask_token(password=PASSWORD, username="alice", **more):
    body = {"tenant": "acme", "username": username, "password": password} | more
    return APIClient().post("/api/v1/token/", body, format="json")


def events(slug="acme", **wanted):
    with plane(slug):
        return list(AuditEvent.objects.filter(**wanted).order_by("number"))


# What they open.


@pytest.mark.parametrize("site", SITES)
def test_a_passkey_opens_its_members_account_without_name_password_and_code(acme, site, clock):
    browser = browser_of(site, SITES[site])
    enrol(browser, site, clock)
    authenticator = register(browser, site, password=PASSWORD, code=clock.code(_secret(site), 1))
    visitor = Client()
    answer = log_in(authenticator, site, visitor)

    assert (answer.status_code, answer["Location"]) == (302, site)
    assert is_in(visitor, site)


def _secret(site):
    with plane_of(site):
        return second_factor._unsealed(second_factor.SecondFactor.objects.get())


@pytest.mark.parametrize("kind", [EdDSA, RS256], ids=["EdDSA", "RS256"])
@pytest.mark.parametrize("fmt", ["none", "packed"])
def test_other_keys_and_a_signature_of_the_keys_own_count_too(alice_browser, kind, fmt):
    authenticator = Authenticator(kind())
    send(alice_browser, ACME, authenticator.made(begin(alice_browser, ACME), fmt=fmt))

    assert opens(authenticator, ACME) and opens(authenticator, ACME)


def test_an_authenticator_that_does_not_count_opens_too(alice_browser):
    authenticator = register(alice_browser, ACME, Authenticator(counts=False))

    assert opens(authenticator, ACME) and opens(authenticator, ACME)


def test_logging_in_leads_where_the_visitor_wanted_to_inside_the_site(key):
    for wanted, where in {f"{ACME}scans/target/": f"{ACME}scans/target/", "//evil.example/": ACME}.items():
        browser = Client()
        answer = show(browser, ACME, key.shown(options_for(browser, ACME)), next=wanted)
        assert answer["Location"] == where


def test_a_browser_is_asked_for_whatever_passkey_it_has_and_its_owner_to_be_verified(key):
    asked = options_for(Client(), ACME)

    assert asked | {"challenge": ""} == {
        "challenge": "", "rpId": "localhost", "timeout": 300_000, "userVerification": "required",
        "allowCredentials": [],
    }  # fmt: skip
    assert len({options_for(Client(), ACME)["challenge"] for _ in range(5)}) == 5


def test_an_authenticator_is_told_to_keep_it_for_a_handle_that_says_nothing_and_not_twice(alice_browser, key, alice):
    asked = begin(alice_browser, ACME)

    assert asked["authenticatorSelection"] == {
        "residentKey": "required", "requireResidentKey": True, "userVerification": "required",
    }  # fmt: skip
    assert (asked["rp"]["id"], asked["user"]["name"], asked.get("attestation", "none")) == (
        "localhost",
        "alice",
        "none",
    )
    assert [known["id"] for known in asked["excludeCredentials"]] == [key.made(asked)["id"]]
    assert key.handle == passkeys_handle(alice) and str(alice.pk).encode() not in key.handle


def passkeys_handle(user, slug="acme"):
    with plane(slug):
        return passkeys.handle_of(user)


def test_the_operators_host_has_passkeys_of_its_own(acme, settings):
    settings.BULKHEAD_PUBLIC_URL = "https://bulkhead.example:8443"
    with tenant_context("acme"):
        assert passkeys.site() == ("bulkhead.example", "https://bulkhead.example:8443")
    settings.BULKHEAD_OPERATOR_HOST = "ops.example"
    with tenant_context("acme"):
        assert passkeys.site()[0] == "bulkhead.example"
    with control_plane():
        assert passkeys.site() == ("ops.example", "https://ops.example:8443")
    settings.BULKHEAD_PUBLIC_URL = "https://bulkhead.example:443"
    assert passkeys.site() == ("bulkhead.example", "https://bulkhead.example")


def test_the_host_that_a_request_names_is_no_matter(key, settings):
    settings.ALLOWED_HOSTS = ["evil.example"]
    browser = Client(headers={"Host": "evil.example"})
    options = options_for(browser, ACME)
    evil = {"client": {"origin": "http://evil.example"}}

    assert options["rpId"] == "localhost"
    assert show(browser, ACME, key.shown(options, rp_id="evil.example", **evil)).status_code == 200
    assert show(browser, ACME, key.shown(options, **evil)).status_code == 200
    assert show(browser, ACME, key.shown(options)).status_code == 302


# Whose they are.


def test_a_passkey_of_one_plane_opens_no_other(key, globex):
    for site in (GLOBEX, OPERATOR, "/t/nobody/"):
        assert not opens(key, site)
    assert opens(key, ACME)


def test_members_with_the_same_key_and_name_in_two_tenants_have_each_their_own(alice, alice_browser, globex):
    with tenant_context("globex"):
        fields = {"pk": alice.pk, "username": "alice", "password": alice.password, "role": "owner"}
        get_user_model().objects.create(**fields)
    here, there = register(alice_browser, ACME), register(browser_of(GLOBEX, "alice"), GLOBEX)

    assert here.handle != there.handle
    assert [opens(here, ACME), opens(there, GLOBEX), opens(here, GLOBEX), opens(there, ACME)] == [
        True, True, False, False,
    ]  # fmt: skip


def copy_passkey(**changes):
    """Alice's row of acme's, in globex: as in a clone, the member with it."""
    with tenant_context("acme"):
        passkey, alice = Passkey.objects.values().get(), get_user_model().objects.values().get(username="alice")
    with tenant_context("globex"):
        get_user_model().objects.create(**alice)
        Passkey.objects.create(**passkey | changes)
        return passkeys.handle_of(get_user_model().objects.get(pk=alice["id"]))


def test_in_a_copy_of_the_database_a_passkey_opens_nothing_and_is_none(key, globex):
    """Whatever handle the authenticator says: it is not signed."""
    there = copy_passkey()

    assert not opens(key, GLOBEX) and not opens(key, GLOBEX, userHandle=there)
    browser = browser_of(GLOBEX, "alice")
    assert b"You have no passkey" in page(browser, GLOBEX).content
    own = register(browser, GLOBEX)
    with tenant_context("globex"):
        assert Passkey.objects.count() == 1
    assert opens(own, GLOBEX)


def test_a_disabled_member_stays_out_and_is_put_out(key, tom):
    tom_browser = browser_of(ACME, "tom")
    toms = register(tom_browser, ACME)
    visitor = Client()
    assert log_in(toms, ACME, visitor).status_code == 302
    with tenant_context("acme"):
        tom.is_active = False
        tom.save(update_fields=["is_active"])

    assert b"This passkey opens nothing here" in log_in(toms, ACME).content
    assert visitor.get(ACME).status_code == 302
    assert opens(key, ACME)


def test_an_operator_who_supports_has_none(acme, alice):
    with tenant_context("acme"):
        operator = get_user_model().objects.create(username="support:oscar", operator=alice.pk, is_active=False)
        authenticator = Authenticator()
        authenticator.handle = passkeys.handle_of(operator)
        Passkey.objects.create(
            user=operator,
            database="acme",
            name="x",
            credential_id=authenticator.shown({"challenge": ""})["id"],
        )
        assert SupportAccess.objects.count() == 0
    assert not opens(authenticator, ACME)


@pytest.mark.parametrize(("state", "status"), [("suspended", 403), ("deleting", 200), ("maintenance", 503)])
def test_a_tenant_that_is_not_served_answers_as_to_a_password(key, state, status):
    browser = Client()
    options = options_for(browser, ACME)
    set_state("acme", state)
    right = show(browser, ACME, key.shown(options))
    with_password = log_in_with_password(Client(), ACME)

    assert (right.status_code, with_password.status_code) == (status, status)
    if state == "suspended":
        assert show(browser, ACME, key.shown(options, flags=1)).status_code == 200


def test_the_api_takes_passwords_alone(key):
    assert ask_token().status_code == 200
    assert ask_token(password="", passkey="{}").status_code == 400


# Failures.


def test_failures_are_counted_for_the_address_and_log_ins_taken_back(key):
    for _ in range(3):
        assert not opens(key, ACME, flags=1)
    assert counted("acme", "address") == [3] and opens(key, ACME) and counted("acme", "address") == [3]
    set_failures("acme", "address", 100)
    let_pass("acme", 0)
    with tenant_context("acme"):
        tries.Tries.objects.update(allowed_at=tries.timezone.now() + timedelta(hours=1))

    answers = [log_in(key, ACME), log_in_with_password(Client(), ACME)]
    assert [answer.status_code for answer in answers] == [429, 429] and int(answers[0]["Retry-After"]) > 0


def test_failures_at_a_tenant_that_is_not_there_are_counted_too(acme):
    assert not opens(Authenticator(), "/t/nobody/")

    assert counted("operator", "unknown") == [1]


def test_a_log_in_is_recorded_and_so_is_a_failed_one(key, alice):
    opens(key, ACME)
    opens(key, ACME, flags=1)
    opens(Authenticator(), ACME)

    (opened,) = events(action="logged_in", changes__passkey="my key")
    known, unknown = events(action="log_in_failed")
    assert (opened.actor, opened.object_id) == ("alice", str(alice.pk))
    assert [known.object_name, known.changes, unknown.object_name, unknown.changes] == ["alice", {}, "", {}]


def test_a_count_of_signatures_that_goes_back_opens_nothing_and_is_recorded(key):
    assert opens(key, ACME, count=7)

    for count in (7, 6, 1, 0):
        assert not opens(key, ACME, count=count)
    failures = [event.changes for event in events(action="log_in_failed")]
    assert failures == [{"passkey": "my key", "sign_count": n, "sign_count_before": 7} for n in (7, 6, 1, 0)]
    assert opens(key, ACME, count=8)


def test_an_answer_opens_once_where_no_signatures_are_counted_too(alice_browser):
    authenticator, browser = register(alice_browser, ACME, Authenticator(counts=False)), Client()
    answer = authenticator.shown(options_for(browser, ACME))
    again = Client()
    again.cookies["csrftoken_acme"] = browser.cookies["csrftoken_acme"].value

    assert [show(each, ACME, answer).status_code for each in (browser, again)] == [302, 200]


def test_a_question_of_no_tenants_is_none_of_the_consoles(acme):
    """Both are signed with the installation's own key; a visitor may write any cookie that they like."""
    authenticator, browser = register(browser_of(OPERATOR, "oscar"), OPERATOR), Client()
    options = options_for(browser, "/t/nobody/")
    browser.cookies["csrftoken_operator"] = browser.cookies["csrftoken_nobody"].value

    assert show(browser, OPERATOR, authenticator.shown(options)).status_code == 200
    browser.get(f"{OPERATOR}login/")
    assert opens(authenticator, OPERATOR)


def test_every_refusal_takes_as_long_as_any(key, monkeypatch):
    waited = []
    monkeypatch.setattr(passkeys, "answer_in_step", waited.append)
    for site in (ACME, GLOBEX, "/t/nobody/"):
        assert not opens(key, site, flags=1)

    assert len(waited) == 3


def test_of_two_uses_of_one_answer_at_once_one_opens(key, monkeypatch):
    """The second reads the row before the first has written it."""
    browser = Client()
    answer = key.shown(options_for(browser, ACME))
    used, first = passkeys._use, []

    def another_first(passkey, asked_at, sign_count):
        monkeypatch.setattr(passkeys, "_use", used)
        first.append(used(passkey, asked_at, sign_count))
        used(passkey, asked_at, sign_count)

    monkeypatch.setattr(passkeys, "_use", another_first)
    assert show(browser, ACME, answer).status_code == 200 and len(first) == 1


# One's own page.


@pytest.mark.parametrize("site", SITES)
def test_a_passkey_is_registered_shown_and_removed_with_the_password(acme, site):
    browser = browser_of(site, SITES[site])
    authenticator = register(browser, site, name="phone & co")
    shown = page(browser, site).content.decode()
    with plane_of(site):
        passkey = str(Passkey.objects.get().pk)

    assert "phone &amp; co" in shown and "never" in shown
    assert b"This is not right" in page(browser, site, "remove", passkey=passkey, password=WRONG).content
    assert opens(authenticator, site) and "never" not in page(browser, site).content.decode()
    assert b"You have no passkey" in page(browser, site, "remove", passkey=passkey, password=PASSWORD).content
    assert not opens(authenticator, site)


def test_to_begin_takes_the_password(alice_browser):
    assert begin(alice_browser, ACME, password=WRONG) is None
    assert begin(alice_browser, ACME) is not None


def test_who_has_an_app_says_a_code_too(alice_browser, clock):
    secret, _ = enrol(alice_browser, ACME, clock)

    assert begin(alice_browser, ACME) is None
    assert begin(alice_browser, ACME, code="000000") is None
    assert begin(alice_browser, ACME, password=WRONG, code=clock.code(secret)) is None
    assert begin(alice_browser, ACME, code=clock.code(secret, 1)) is not None


def test_passwords_on_the_page_are_counted(key, alice_browser, monkeypatch):
    monkeypatch.setattr(tries, "WAITS", [timedelta(hours=1)])
    with tenant_context("acme"):
        passkey = str(Passkey.objects.get().pk)
    wrong = [page(alice_browser, ACME, "begin", name="x", password=WRONG).status_code for _ in range(3)]
    wrong += [page(alice_browser, ACME, "remove", passkey=passkey, password=WRONG).status_code for _ in range(3)]

    assert wrong == [200] * 5 + [429]
    assert page(alice_browser, ACME, "begin", name="x", password=PASSWORD).status_code == 429


def test_codes_on_the_page_are_counted(alice_browser, clock, monkeypatch):
    monkeypatch.setattr(tries, "WAITS", [timedelta(hours=1)])
    secret, _ = enrol(alice_browser, ACME, clock)
    fields = {"name": "x", "password": PASSWORD}

    assert [page(alice_browser, ACME, "begin", code="000000", **fields).status_code for _ in range(5)] == [200] * 5
    assert page(alice_browser, ACME, "begin", code=clock.code(secret), **fields).status_code == 429


def test_a_member_has_ten_at_most(key, alice_browser):
    with tenant_context("acme"):
        fields = Passkey.objects.values().get()
        for number in range(8):
            Passkey.objects.create(**fields | {"id": None, "credential_id": f"AAA{number}"})
    last, one_more = begin(alice_browser, ACME), Authenticator()
    assert b'id="made"' in send(alice_browser, ACME, Authenticator().made(last)).content

    assert begin(alice_browser, ACME) is None
    with tenant_context("acme"):
        first = Passkey.objects.order_by("id").first()
        Passkey.objects.filter(pk=first.pk).delete()
    options = begin(alice_browser, ACME)
    with tenant_context("acme"):
        Passkey.objects.create(**fields | {"id": None, "credential_id": "BBBB"})
    assert b"was not registered" in send(alice_browser, ACME, one_more.made(options)).content


def test_a_registration_is_finished_where_it_was_begun_once_and_soon(alice_browser, tom, later):
    authenticator, elsewhere = Authenticator(), browser_of(ACME, "tom")
    answer = authenticator.made(begin(alice_browser, ACME))

    assert b"was not registered" in send(elsewhere, ACME, answer).content
    assert b"was not registered" in send(browser_of(ACME, "alice"), ACME, answer).content
    assert b'id="made"' in send(alice_browser, ACME, answer).content
    assert b"was not registered" in send(alice_browser, ACME, answer).content
    answer = Authenticator().made(begin(alice_browser, ACME))
    later.gone = 301
    assert b"was not registered" in send(alice_browser, ACME, answer).content


def test_a_passkey_is_one_members(key, tom):
    browser = browser_of(ACME, "tom")

    assert b"was not registered" in send(browser, ACME, key.made(begin(browser, ACME))).content


def test_a_member_removes_none_of_anothers(key, tom):
    browser = browser_of(ACME, "tom")
    register(browser, ACME)
    with tenant_context("acme"):
        passkey = str(Passkey.objects.exclude(user=tom).get().pk)
    page(browser, ACME, "remove", passkey=passkey, password=PASSWORD)

    assert opens(key, ACME)


def test_a_new_passkey_and_a_removed_one_end_the_log_ins_through_the_api(alice_browser, alice_api, tom_api, alice):
    def status(api):
        return api.post("/api/v1/profiles/", {}, format="json").status_code

    before = status(alice_api)
    register(alice_browser, ACME)
    after = status(alice_api)
    token = ask_token().json()["access"]
    api = APIClient(headers={"Authorization": f"Bearer {token}"})
    again = status(api)
    with tenant_context("acme"):
        passkey = str(Passkey.objects.get().pk)
    page(alice_browser, ACME, "remove", passkey=passkey, password=PASSWORD)

    assert [before, after, again, status(api), status(tom_api)] == [400, 401, 400, 401, 400]


def test_what_a_passkey_opened_ends_when_it_is_removed_and_the_session_that_removes_it_goes_on(key, alice_browser):
    other, own = Client(), Client()
    assert [log_in(key, ACME, browser).status_code for browser in (other, own)] == [302, 302]
    with tenant_context("acme"):
        passkey = str(Passkey.objects.get().pk)
    page(own, ACME, "remove", passkey=passkey, password=PASSWORD)

    assert [is_in(own, ACME), is_in(alice_browser, ACME), is_in(other, ACME)] == [True, False, False]
    assert other.post(f"{ACME}passkeys/", {"step": "begin"})["Location"].startswith(f"{ACME}login/")


@pytest.mark.parametrize("step", ["", "begin ", "everything", "\0"])
def test_another_step_is_none(alice_browser, step):
    assert alice_browser.post(f"{ACME}passkeys/", {"step": step}).status_code == 400


def test_changes_are_recorded_and_uses_are_not_changes(key, alice):
    opens(key, ACME)
    with tenant_context("acme"):
        passkey = Passkey.objects.get()
        Passkey.objects.filter(pk=passkey.pk).delete()

    made, removed = events(resource="accounts.passkey")
    assert (made.action, made.actor, removed.action) == ("created", "alice", "deleted")
    assert made.changes["name"] == [None, "my key"] and made.changes["public_key"] == [None, passkey.public_key]


def test_a_new_password_leaves_passkeys_and_ends_what_they_opened(key, alice):
    visitor = Client()
    log_in(key, ACME, visitor)
    with tenant_context("acme"):
        alice.set_password("another correct horse")
        alice.save(update_fields=["password"])

    assert not is_in(visitor, ACME) and opens(key, ACME)


# Where everybody has to have a second factor.


@pytest.fixture
def required(alice_browser, key):
    """Alice has a passkey and no app."""
    post(alice_browser, ACME, "policy", requires_second_factor="on")


def test_a_session_that_a_passkey_opened_needs_no_app(required, key, alice_browser):
    visitor = Client()
    log_in(key, ACME, visitor)

    assert is_in(visitor, ACME) and is_in(alice_browser, ACME)


def test_whose_is_a_passkey_does_not_get_in_with_the_password_alone(required, hashed):
    page, wrong = log_in_with_password(Client(), ACME), log_in_with_password(Client(), ACME, password=WRONG)

    assert page.status_code == wrong.status_code == 200 and len(hashed) == 2
    right, wrong = ask_token(), ask_token(WRONG)
    assert right.status_code == 401 and right.content == wrong.content


def test_who_has_an_app_too_gets_in_with_password_and_code(required, alice_browser, clock):
    secret, _ = enrol(alice_browser, ACME, clock)

    assert log_in_with_password(Client(), ACME).status_code == 200
    assert log_in_with_password(Client(), ACME, otp=clock.code(secret)).status_code == 302


def test_who_has_none_may_register_a_passkey_first_and_goes_on_with_it(required, tom):
    browser = browser_of(ACME, "tom")
    before = browser.get(ACME)
    shown = page(browser, ACME).content
    register(browser, ACME)

    assert before["Location"] == f"{ACME}second-factor/" and b"requires a second factor" in shown
    assert browser.get(ACME).status_code == 200


def test_a_session_that_was_open_with_the_password_before_makes_no_other_way_in(tom, key, alice_browser):
    before = browser_of(ACME, "tom")
    register(browser_of(ACME, "tom"), ACME)
    post(alice_browser, ACME, "policy", requires_second_factor="on")

    assert before.get(ACME)["Location"] == f"{ACME}second-factor/"
    assert b"log out, and log in with it" in page(before, ACME).content
    assert begin(before, ACME) is None
    assert b"Log in with your passkey first" in post(before, ACME, "begin", password=PASSWORD).content
    assert before.post(f"{ACME}logout/").status_code == 200


def test_who_removes_another_than_the_one_that_opened_the_session_goes_on_with_that(required, key, alice_browser):
    register(alice_browser, ACME, name="lost")
    with tenant_context("acme"):
        lost = str(Passkey.objects.get(name="lost").pk)
    visitor = Client()
    log_in(key, ACME, visitor)
    page(visitor, ACME, "remove", passkey=lost, password=PASSWORD)

    assert is_in(visitor, ACME) and not is_in(alice_browser, ACME)


def test_who_removes_the_last_one_is_led_back(required, alice_browser):
    with tenant_context("acme"):
        passkey = str(Passkey.objects.get().pk)
    page(alice_browser, ACME, "remove", passkey=passkey, password=PASSWORD)

    assert alice_browser.get(ACME)["Location"] == f"{ACME}second-factor/"


# What others see and do.


def test_who_may_look_at_accounts_sees_who_has_what(key, tom, alice_browser, clock):
    enrol(browser_of(ACME, "tom"), ACME, clock)
    rows = alice_browser.get(f"{ACME}accounts/user/").content.decode().split("<tr>")

    found = {name: "".join(row for row in rows if f">{name}<" in row) for name in ("alice", "tom")}
    assert 'field-factors">passkey<' in found["alice"] and 'field-factors">app<' in found["tom"]


def test_an_owner_removes_anothers_and_not_their_own(key, tom, alice, alice_browser):
    toms = register(browser_of(ACME, "tom"), ACME)
    body = {"action": "remove_second_factor", "_selected_action": [str(tom.pk), str(alice.pk)]}
    alice_browser.post(f"{ACME}accounts/user/", body)

    assert [opens(toms, ACME), opens(key, ACME)] == [False, True]


def test_a_command_removes_an_operators_or_inside_a_tenant_a_members(key, alice):
    operators = register(browser_of(OPERATOR, "oscar"), OPERATOR)
    access = ask_token().json()["access"]
    with control_plane():
        call_command("remove_second_factor", "oscar", stdout=StringIO())
        call_command("tenant_command", "acme", "remove_second_factor", "alice", stdout=StringIO())

    assert [opens(operators, OPERATOR), opens(key, ACME)] == [False, False]
    api = APIClient(headers={"Authorization": f"Bearer {access}"})
    assert api.post("/api/v1/profiles/", {}, format="json").status_code == 401


def test_an_answer_stands_in_no_log_and_no_audit(key, caplog):
    browser = Client()
    answer = key.shown(options_for(browser, ACME), flags=1)
    show(browser, ACME, answer)

    said = caplog.text + str([event.changes for event in events()])
    assert answer["response"]["signature"] not in said and "A log-in with a passkey failed" in said


def test_what_is_no_post_gets_no_answer_and_what_is_no_get_no_question(acme):
    assert [Client().post(f"{site}login/passkey/").status_code for site in (ACME, OPERATOR, "/t/nobody/")] == [405] * 3
    assert json.loads(Client().get("/t/nobody/login/passkey/").content).keys() == options_for(Client(), ACME).keys()
