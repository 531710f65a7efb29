"""A code beside the password: what it is kept as, when it opens, and that nothing tells which of the two was wrong."""

import base64
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import connections
from tenants.accounts import hashers, second_factor, tries
from tenants.accounts.api_keys import make_key
from tenants.accounts.models import RecoveryCode, SecondFactor
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.routes.world import contents
from tests.tenants.browsing import COOKIES, form, is_in, log_in
from tests.tenants.enrolling import Clock, begin, browser_of, enrol, post
from tests.tenants.trying import WRONG, let_pass

ACME, OPERATOR = "/t/acme/", "/operator/"
UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
SITES = {ACME: "alice", OPERATOR: "oscar"}


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(second_factor, "time", clock)
    return clock


@pytest.fixture
def alice_browser(acme):
    return browser_of(ACME, "alice")


@pytest.fixture
def enrolled(alice_browser, clock):
    """Alice's secret and recovery codes."""
    return enrol(alice_browser, ACME, clock)


@pytest.fixture
def long_waits(monkeypatch):
    """No machine is so slow that they are over before they are looked at."""
    monkeypatch.setattr(tries, "WAITS", [timedelta(hours=1)])


def ask_token(password=PASSWORD, tenant="acme", username="alice", **more):
    body = {"tenant": tenant, "username": username, "password": password} | more
    return APIClient().post("/api/v1/token/", body, format="json")


def plane_of(site):
    return control_plane() if site == OPERATOR else tenant_context("acme")


@pytest.mark.parametrize("site", SITES)
def test_who_has_enrolled_needs_a_code_beside_the_password(acme, clock, site):
    secret, codes = enrol(browser_of(site, SITES[site]), site, clock)

    assert len(set(codes)) == 10
    for otp in ({}, {"otp": ""}, {"otp": "000000"}, {"otp": codes[0][:-1]}):
        assert log_in(Client(), site, **otp).status_code == 200
    let_pass(COOKIES[site], 15)
    browser = Client()
    assert log_in(browser, site, otp=clock.code(secret)).status_code == 302
    assert is_in(browser, site)
    assert log_in(Client(), site, password=WRONG, otp=codes[0]).status_code == 200
    assert log_in(Client(), site, otp=codes[0]).status_code == 302


def test_the_api_takes_the_code_where_it_takes_the_password(enrolled, clock):
    secret, codes = enrolled

    assert [ask_token(**otp).status_code for otp in ({}, {"otp": clock.code(secret)})] == [401, 200]
    assert ask_token(otp=codes[1]).status_code == 200


def test_others_of_the_tenant_and_the_same_name_elsewhere_need_none(enrolled, globex):
    with tenant_context("globex"):
        get_user_model().objects.create_user("alice", PASSWORD)

    assert ask_token(username="tom").status_code == 200
    assert ask_token(username="tom", otp="123456").status_code == 200
    assert ask_token(tenant="globex").status_code == 200


def refusals(secret, clock):
    return {
        "right password, no code": {},
        "right password, empty code": {"otp": ""},
        "right password, wrong code": {"otp": "000000"},
        "right password, wrong recovery code": {"otp": "aaaa-bbbb-cccc-dddd"},
        "wrong password, right code": {"password": WRONG, "otp": clock.code(secret)},
        "wrong password, wrong code": {"password": WRONG, "otp": "000000"},
        "unknown name": {"username": "nobody", "otp": clock.code(secret)},
        "unknown tenant": {"tenant": "nobody", "otp": clock.code(secret)},
    }


@pytest.mark.parametrize("name", refusals("A" * 32, Clock()))
def test_whether_password_or_code_was_wrong_is_not_told(enrolled, clock, hashed, name):
    expected = ask_token(WRONG)
    asked = {"password": PASSWORD} | refusals(enrolled[0], clock)[name]
    answer = ask_token(**asked)
    page, usual = (
        log_in(Client(), f"/t/{fields.get('tenant', 'acme')}/", fields.get("username", "alice"), **credentials(fields))
        for fields in (asked, {"password": WRONG})
    )

    assert (answer.status_code, answer.json(), len(hashed)) == (401, UNAUTHORISED, 4)
    assert answer.content == expected.content
    names = [header for header in expected.headers if header != "X-Request-ID"]
    assert [answer[header] for header in names] == [expected[header] for header in names]
    shown = [form(each, slug)[1] for each, slug in ((page, asked.get("tenant", "acme")), (usual, "acme"))]
    for otp in filter(None, (asked.get("otp"),)):
        shown[0] = shown[0].replace(f' value="{otp}"', "")
    assert shown[0].replace(asked.get("username", "alice"), "alice") == shown[1]


def credentials(fields):
    return {name: value for name, value in fields.items() if name in ("password", "otp")}


@pytest.mark.parametrize("otp", ["000000", "aaaa-bbbb-cccc-dddd", ""], ids=["code", "recovery code", "none"])
def test_the_work_does_not_tell_either(enrolled, hashed, otp):
    def statements(password):
        with tenant_context("acme"), CaptureQueriesContext(connection) as captured:
            assert authenticate(HttpRequest(), username="alice", password=password, otp=otp) is None
        return [query["sql"].partition("'")[0] for query in captured.captured_queries]

    statements(WRONG)  # the count's rows are made
    assert statements(PASSWORD) == statements(WRONG)
    assert len(hashed) == 3


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)])
def test_a_clock_may_be_one_step_off(enrolled, clock, steps, status):
    clock.advance(10)

    assert ask_token(otp=clock.code(enrolled[0], steps)).status_code == status


def test_a_time_step_opens_once_and_closes_those_before_it(enrolled, clock):
    secret, _ = enrolled
    clock.advance(10)

    assert [ask_token(otp=clock.code(secret, steps)).status_code for steps in (0, 0, -1, 1, 1)] == [
        200, 401, 401, 200, 401,
    ]  # fmt: skip


def test_the_code_that_confirmed_does_not_open(alice_browser, clock):
    secret = begin(alice_browser, ACME)
    post(alice_browser, ACME, "confirm", code=clock.code(secret))

    assert ask_token(otp=clock.code(secret)).status_code == 401


@pytest.mark.parametrize("kind", ["code", "recovery code"])
def test_of_parallel_uses_of_one_code_one_opens(enrolled, clock, kind, monkeypatch):
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 600)
    secret, codes = enrolled
    otp = clock.code(secret) if kind == "code" else codes[0]

    def ask(_):
        try:
            return ask_token(otp=otp).status_code
        finally:
            connections.close_tenant_connections()

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, range(6)))

    assert statuses.count(200) == 1 and set(statuses) <= {200, 401, 429}


def test_a_code_that_is_not_used_for_a_wrong_password_opens_with_the_right_one(enrolled, clock):
    secret, codes = enrolled

    for otp in (clock.code(secret), codes[0]):
        assert [ask_token(password, otp=otp).status_code for password in (WRONG, PASSWORD)] == [401, 200]


@pytest.mark.parametrize("spell", [str.upper, lambda code: code.replace("-", ""), lambda code: f" {code} "], ids="ABC")
def test_a_recovery_code_opens_once_however_it_is_spelt(enrolled, spell):
    code = spell(enrolled[1][0])

    assert [ask_token(otp=code).status_code for _ in range(2)] == [200, 401]


@pytest.mark.parametrize(
    "otp", ["", "\u0661\u0662\u0663\u0664\u0665\u0666", "1234567", "12345", "-", " ", "0" * 32], ids=ascii
)
def test_what_is_no_code_opens_nothing(enrolled, otp):
    assert ask_token(otp=otp).status_code == 401


@pytest.mark.parametrize("otp", [None, True, [], {}, "1\0", "\ud800", "0" * 33], ids=ascii)
def test_what_is_no_text_of_a_code_is_not_valid(enrolled, otp):
    body = {"tenant": "acme", "username": "alice", "password": PASSWORD, "otp": otp}
    answer = APIClient().post("/api/v1/token/", json.dumps(body), content_type="application/json")

    assert answer.status_code == 400


def test_codes_are_counted_as_passwords_are(enrolled, clock, long_waits):
    assert [ask_token(otp=f"{n:06}").status_code for n in range(7)] == [401] * 5 + [429] * 2
    assert ask_token(otp=clock.code(enrolled[0])).status_code == 429


def test_secret_and_recovery_codes_are_shown_once_and_stand_nowhere(alice_browser, clock, caplog):
    caplog.set_level(logging.DEBUG)
    secret = begin(alice_browser, ACME)
    wrong = post(alice_browser, ACME, "confirm", code="000000")
    codes = post(alice_browser, ACME, "confirm", code=clock.code(secret)).content.decode()
    with tenant_context("acme"):
        kept = SecondFactor.objects.get().sealed_secret
    later = alice_browser.get(f"{ACME}second-factor/").content.decode()

    assert "This is not right" in wrong.content.decode() and secret not in wrong.content.decode() + codes + later
    for plane in ("acme", "control"):
        assert secret not in str(contents(plane)) and pieces(codes).isdisjoint(pieces(str(contents(plane))))
    assert len(pieces(codes)) == 10
    assert kept.startswith("bh1.runtime.") and secret not in caplog.text
    assert "10 recovery codes left" in later and "recovery-codes" in codes and "recovery-codes" not in later


def pieces(text):
    return {part for part in text.replace("<code>", " ").replace("</code>", " ").split() if len(part) == 32}


def test_recovery_codes_have_128_random_bits_each(enrolled):
    texts = [code.replace("-", "").upper() for code in enrolled[1]]
    codes = [base64.b32decode(text + "=" * (-len(text) % 8)) for text in texts]

    assert [len(code) for code in codes] == [16] * 10
    assert all(len(set(column)) > 1 for column in zip(*codes, strict=True))  # no byte stands in all


def test_an_app_reads_the_same_from_picture_address_and_text(alice_browser):
    page = post(alice_browser, ACME, "begin", password=PASSWORD).content.decode()

    assert 'class="segno"' in page and "otpauth://totp/Bulkhead%20Acme:alice?secret=" in page


def test_to_begin_takes_the_password(alice_browser):
    page = post(alice_browser, ACME, "begin", password=WRONG)

    assert b"This is not right" in page.content and b'class="segno"' not in page.content
    with tenant_context("acme"):
        assert not SecondFactor.objects.exists()


def test_a_secret_that_was_not_confirmed_asks_nothing_and_another_replaces_it(alice_browser, clock):
    first = begin(alice_browser, ACME)
    assert ask_token().status_code == 200
    second = begin(alice_browser, ACME)

    assert b"recovery-codes" not in post(alice_browser, ACME, "confirm", code=clock.code(first)).content
    assert b"recovery-codes" in post(alice_browser, ACME, "confirm", code=clock.code(second)).content
    assert post(alice_browser, ACME, "begin", password=PASSWORD).status_code == 200
    assert ask_token().status_code == 401


def test_a_new_second_factor_ends_the_log_ins_that_were_had_without(alice_browser, alice_api, tom_api, clock):
    before = alice_api.post("/api/v1/profiles/", {}, format="json").status_code
    enrol(alice_browser, ACME, clock)

    assert (before, alice_api.post("/api/v1/profiles/", {}, format="json").status_code) == (400, 401)
    assert tom_api.post("/api/v1/profiles/", {}, format="json").status_code == 400
    assert alice_browser.get(ACME).status_code == 200


@pytest.mark.parametrize("given", ["neither", "password", "code"])
def test_one_half_does_not_remove_ones_own(enrolled, alice_browser, clock, given):
    fields = {"password": WRONG, "code": "000000"}
    fields |= {"password": {"password": PASSWORD}, "code": {"code": clock.code(enrolled[0])}}.get(given, {})

    assert b"This is not right" in post(alice_browser, ACME, "remove", **fields).content
    assert ask_token().status_code == 401


def test_password_and_code_remove_ones_own(enrolled, alice_browser, clock):
    post(alice_browser, ACME, "remove", password=PASSWORD, code=clock.code(enrolled[0]))

    assert ask_token().status_code == 200
    with tenant_context("acme"):
        assert not SecondFactor.objects.exists() and not RecoveryCode.objects.exists()


def test_saying_the_password_elsewhere_forgets_no_wrong_code(enrolled, alice_browser, clock, long_waits):
    def remove(code):
        return post(alice_browser, ACME, "remove", password=PASSWORD, code=code).status_code

    assert [remove("000000") for _ in range(5)] == [200] * 5
    change = {"old_password": PASSWORD, "new_password1": "x", "new_password2": "y"}
    statuses = [alice_browser.post(f"{ACME}password_change/", change).status_code, remove(clock.code(enrolled[0]))]

    assert statuses == [429, 429]
    let_pass("acme", 3600)
    assert alice_browser.post(f"{ACME}password_change/", change).status_code == 200
    assert [remove("000000"), alice_browser.post(f"{ACME}password_change/", change).status_code] == [200, 200]
    assert remove(clock.code(enrolled[0])) == 429


def test_codes_that_should_confirm_are_counted(alice_browser, clock, long_waits):
    secret = begin(alice_browser, ACME)

    assert [post(alice_browser, ACME, "confirm", code="000000").status_code for _ in range(6)] == [200] * 5 + [429]
    assert post(alice_browser, ACME, "confirm", code=clock.code(secret)).status_code == 429


def change_accounts(browser, site, account):
    body = {"action": "remove_second_factor", "_selected_action": str(account.pk)}
    return browser.post(f"{site}accounts/user/", body)


def test_an_owner_removes_anothers_and_it_is_recorded(tom, alice_browser, clock):
    enrol(browser_of(ACME, "tom"), ACME, clock)
    before = ask_token(username="tom").status_code
    change_accounts(alice_browser, ACME, tom)

    assert (before, ask_token(username="tom").status_code) == (401, 200)
    with tenant_context("acme"):
        entry = LogEntry.objects.get(object_id=str(tom.pk))
        assert (entry.user.username, entry.change_message) == ("alice", "The second factor was removed.")


def test_an_owner_does_not_remove_their_own_that_way_nor_a_tester_anybodys(enrolled, alice, alice_browser):
    change_accounts(alice_browser, ACME, alice)
    change_accounts(browser_of(ACME, "tom"), ACME, alice)

    assert ask_token().status_code == 401


def test_a_command_removes_an_operators_or_inside_a_tenant_a_members(enrolled, alice_api, clock):
    enrol(browser_of(OPERATOR, "oscar"), OPERATOR, clock)
    assert log_in(Client(), OPERATOR).status_code == 200
    with control_plane():
        call_command("remove_second_factor", "oscar", stdout=StringIO())
        call_command("tenant_command", "acme", "remove_second_factor", "alice", stdout=StringIO())

    assert (ask_token().status_code, log_in(Client(), OPERATOR).status_code) == (200, 302)


def test_of_two_confirmations_at_once_one_makes_recovery_codes(alice, alice_browser, clock, monkeypatch):
    code, made, looked = clock.code(begin(alice_browser, ACME)), [], second_factor._matching_step

    def another_first(secret, text):
        monkeypatch.setattr(second_factor, "_matching_step", looked)
        made.append(second_factor.confirm(alice, code))
        return looked(secret, text)

    monkeypatch.setattr(second_factor, "_matching_step", another_first)
    with tenant_context("acme"):
        assert second_factor.confirm(alice, code) == [] and len(made[0]) == RecoveryCode.objects.count() == 10


@pytest.mark.parametrize("copied", ["to another member", "to another tenant"])
def test_a_copied_row_opens_nothing(enrolled, clock, alice, tom, globex, copied):
    with tenant_context("acme"):
        sealed = SecondFactor.objects.get().sealed_secret
    tenant, member = ("acme", tom) if copied == "to another member" else ("globex", alice)
    with tenant_context(tenant):
        if tenant == "globex":  # as in a clone: the same member, with the same key
            get_user_model().objects.create(pk=alice.pk, username="alice", password=alice.password)
        SecondFactor.objects.create(user_id=member.pk, sealed_secret=sealed, confirmed_at=timezone.now())

    answer = ask_token(tenant=tenant, username=member.username, otp=clock.code(enrolled[0]))
    assert (answer.status_code, answer.json()["code"]) == (503, "tenant_unavailable")


def test_a_copied_recovery_code_opens_nothing(enrolled, clock, tom):
    enrol(browser_of(ACME, "tom"), ACME, clock)
    with tenant_context("acme"):
        RecoveryCode.objects.exclude(user=tom).update(user=tom)

    assert ask_token(username="tom", otp=enrolled[1][0]).status_code == 401


# Where everybody has to have one.


@pytest.fixture
def required(alice_browser, enrolled):
    post(alice_browser, ACME, "policy", requires_second_factor="on")


def test_without_one_a_member_may_do_nothing_but_enrol(tom, required, clock):
    answer = ask_token(username="tom")
    browser = browser_of(ACME, "tom")
    refused = [browser.get(f"{ACME}{page}") for page in ("", "scans/target/", "password_change/", "nowhere/")]

    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
    assert ask_token(WRONG, username="tom").json() == UNAUTHORISED
    assert [(page.status_code, page["Location"]) for page in refused] == [(302, f"{ACME}second-factor/")] * 4
    assert b"the only page that you may use" in browser.get(f"{ACME}second-factor/").content
    secret, _ = enrol(browser, ACME, clock)
    assert browser.get(ACME).status_code == 200
    assert ask_token(username="tom", otp=clock.code(secret)).status_code == 200


def test_without_one_a_member_may_leave(tom, required):
    browser = browser_of(ACME, "tom")

    assert browser.post(f"{ACME}logout/").status_code == 200
    assert browser.get(f"{ACME}second-factor/")["Location"].startswith(f"{ACME}login/")


def test_from_when_it_is_required_log_ins_without_one_end_and_keys_go_on(tom, tom_api, alice_browser, clock, enrolled):
    with tenant_context("acme"):
        _, key = make_key(tom, name="CI", expires_at=timezone.now() + timedelta(days=1), scope="full")
    mine = ask_token(otp=clock.code(enrolled[0])).json()
    page = browser_of(ACME, "tom")
    before = [tom_api.post("/api/v1/profiles/", {}, format="json").status_code, page.get(ACME).status_code]
    post(alice_browser, ACME, "policy", requires_second_factor="on")

    assert before == [400, 200]
    assert tom_api.post("/api/v1/profiles/", {}, format="json").status_code == 401
    assert page.get(ACME).status_code == 302
    program = APIClient(headers={"Authorization": f"Bearer {key}"})
    assert program.post("/api/v1/profiles/", {}, format="json").status_code == 400
    assert APIClient().post("/api/v1/token/refresh/", {"refresh": mine["refresh"]}, format="json").status_code == 200


def test_it_can_be_required_no_longer(tom, required, alice_browser):
    post(alice_browser, ACME, "policy")

    assert ask_token(username="tom").status_code == 200


def test_who_is_no_owner_requires_nothing_of_anybody(tom, alice_browser):
    browser = browser_of(ACME, "tom")

    assert b'name="requires_second_factor"' not in browser.get(f"{ACME}second-factor/").content
    assert post(browser, ACME, "policy", requires_second_factor="on").status_code == 403
    assert b'name="requires_second_factor"' in alice_browser.get(f"{ACME}second-factor/").content
    assert ask_token(username="tom").status_code == 200


def test_operators_require_it_of_operators_alone(acme, clock):
    browser = browser_of(OPERATOR, "oscar")
    post(browser, OPERATOR, "policy", requires_second_factor="on")

    assert browser.get(OPERATOR)["Location"] == f"{OPERATOR}second-factor/"
    assert ask_token().status_code == 200
    enrol(browser, OPERATOR, clock)
    assert browser.get(OPERATOR).status_code == 200


@pytest.mark.parametrize("step", ["", "begin ", "everything", "\0"])
def test_another_step_is_none(alice_browser, step):
    assert post(alice_browser, ACME, step).status_code == 400


def test_who_is_not_logged_in_sees_a_log_in_form(acme):
    for site in (ACME, OPERATOR, "/t/nobody/"):
        for answer in (Client().get(f"{site}second-factor/"), post(Client(), site, "begin", password=PASSWORD)):
            assert answer["Location"].startswith(f"{site}login/")
