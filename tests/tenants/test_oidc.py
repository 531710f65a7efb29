"""Logging in by a tenant's own provider: a real one, and one that tries everything."""

import hashlib
import hmac
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
import requests
from django.contrib.auth import get_user_model
from django.test import Client

from tenants.accounts import outside
from tenants.accounts.links import invite, withdraw_invitation
from tenants.accounts.models import IdentityProvider, MailLink, SignInPolicy
from tenants.audit.models import AuditEvent
from tenants.context import tenant_context
from tests.routes.world import contents
from tests.serving import ServedSocket
from tests.tenants.browsing import form
from tests.tenants.enrolling import browser_of
from tests.tenants.oidc import real_provider
from tests.tenants.oidc.flow import (
    begin,
    come_back,
    configure,
    identities,
    is_refused,
    led_to,
    log_in,
    member_of,
    waiting_account,
)
from tests.tenants.oidc.hostile_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    KID,
    HostileProvider,
    ec_key,
    jwk,
    pem,
    rsa_key,
)
from tests.tenants.states import set_state
from tests.tenants.trying import counted, set_failures


@pytest.fixture
def provider(acme, settings):
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = True
    with HostileProvider() as provider:
        configure(provider)
        yield provider


@pytest.fixture
def browser(acme):
    return Client(raise_request_exception=False)


# What is signed as it should be.


def test_who_the_provider_knows_is_logged_in_with_the_role_that_was_decided(provider, browser):
    answer = log_in(browser, provider)

    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/")
    assert browser.get("/t/acme/").status_code == 200
    assert (member_of(browser), identities()) == ("ann@acme.example", [("ann@acme.example", "subject-1")])
    with tenant_context("acme"):
        ann = get_user_model().objects.get(email="ann@acme.example")
        assert (ann.role, ann.has_usable_password()) == ("tester", False)


def test_a_log_in_by_the_provider_is_recorded_and_so_is_a_failed_one(provider, browser):
    log_in(browser, provider)
    browser.get("/t/acme/oidc/callback/", {"code": "c", "state": "of nobody"})

    with tenant_context("acme"):
        failed, opened = AuditEvent.objects.filter(action__in=["logged_in", "log_in_failed"])[:2]
    assert (opened.action, opened.actor) == ("logged_in", "ann@acme.example")
    assert (failed.action, failed.resource) == ("log_in_failed", "")
    assert opened.changes == failed.changes == {"provider": provider.issuer}


def test_the_browser_takes_no_secret_and_the_code_counts_with_its_verifier(provider, browser):
    asked = begin(browser)
    provider.nonce = asked["nonce"]
    come_back(browser, code="the code", state=asked["state"])
    (_, _, headers, form) = next(each for each in provider.asked if each[1] == "/token")

    assert asked | {"state": "", "nonce": "", "code_challenge": ""} == {
        "response_type": "code", "scope": "openid email", "client_id": CLIENT_ID, "state": "", "nonce": "",
        "redirect_uri": "http://testserver/t/acme/oidc/callback/", "code_challenge": "",
        "code_challenge_method": "S256",
    }  # fmt: skip
    assert form["code"] == ["the code"] and form["redirect_uri"] == [asked["redirect_uri"]]
    verifier = form["code_verifier"][0]
    assert jwt.utils.base64url_encode(hashlib.sha256(verifier.encode()).digest()).decode() == (asked["code_challenge"])
    assert headers["Authorization"].startswith("Basic ") and CLIENT_SECRET not in str(form)
    assert len({asked["state"], asked["nonce"], verifier}) == 3 and min(map(len, (asked["state"], verifier))) >= 43


def test_a_provider_that_takes_the_secret_in_the_body_alone_gets_it_there(provider, browser):
    methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    provider.answers["/.well-known/openid-configuration"] = provider.discovery() | methods
    configure(provider)

    assert log_in(browser, provider).status_code == 302
    (_, _, headers, form) = next(each for each in provider.asked if each[1] == "/token")
    assert (form["client_id"], form["client_secret"]) == ([CLIENT_ID], [CLIENT_SECRET])
    assert "Authorization" not in headers


@pytest.mark.parametrize("signer", ["PS256", "ES256"])
def test_other_asymmetric_algorithms_count_too(provider, browser, signer):
    key = ec_key() if signer == "ES256" else rsa_key()
    provider.keys = [jwk(key)]
    provider.token = lambda: provider.good_token(key, signer)

    assert log_in(browser, provider).status_code == 302


def test_keys_are_looked_up_by_name_and_a_single_one_needs_none(provider, browser):
    provider.keys = [jwk(rsa_key("other"), kid="other"), jwk(rsa_key()), jwk(rsa_key("third"), use="enc")]
    assert log_in(browser, provider).status_code == 302
    provider.keys = [jwk(rsa_key())]
    provider.token = lambda: jwt.encode(provider.claims(), rsa_key(), "RS256")
    assert log_in(Client(), provider).status_code == 302


def test_the_second_time_the_subject_counts_and_not_the_address(provider, browser):
    log_in(browser, provider)
    provider.token = lambda: provider.good_token(email="else@evil.example", email_verified=False)

    assert log_in(Client(), provider).status_code == 302
    assert identities() == [("ann@acme.example", "subject-1")]


def test_an_account_that_waits_is_opened_by_its_verified_address(provider, browser):
    configure(provider, makes_members=False)
    waiting_account(role="manager", email="Ann@Acme.example")

    assert log_in(browser, provider).status_code == 302
    assert (member_of(browser), identities()) == ("ann", [("ann", "subject-1")])


def test_an_invitation_is_taken_up_by_the_provider_and_its_link_ends(provider, browser, alice):
    configure(provider, makes_members=False)
    with tenant_context("acme"):
        invited = invite(username="ann", email="ann@acme.example", role="manager", invited_by=alice)

    assert log_in(browser, provider).status_code == 302
    with tenant_context("acme"):
        invited.refresh_from_db()
        links = MailLink.objects.filter(user=invited).values_list("ending", flat=True)
        assert (invited.is_active, invited.is_invited, invited.role, list(links)) == (True, False, "manager", ["used"])


def test_an_invitation_that_was_withdrawn_is_not_taken_up(provider, browser, alice):
    with tenant_context("acme"):
        withdraw_invitation(invite(username="ann", email="ann@acme.example", role="manager", invited_by=alice))

    assert is_refused(log_in(browser, provider)) and identities() == []


# What opens nothing.

TOKENS = {
    "another issuer": lambda p: p.good_token(iss="https://id.evil.example"),
    "the issuer with a slash": lambda p: p.good_token(iss=p.issuer + "/"),
    "no issuer": lambda p: p.good_token(iss=None),
    "a list of issuers": lambda p: jwt.api_jws.encode(
        json.dumps(p.claims() | {"iss": [p.issuer]}).encode(), rsa_key(), "RS256", {"kid": KID}
    ),
    "another audience": lambda p: p.good_token(aud="another"),
    "no audience": lambda p: p.good_token(aud=None),
    "an audience too many": lambda p: p.good_token(aud=[CLIENT_ID, "another"]),
    "an audience too many, and azp": lambda p: p.good_token(aud=[CLIENT_ID, "another"], azp=CLIENT_ID),
    "no audience in the list": lambda p: p.good_token(aud=[]),
    "issued to another": lambda p: p.good_token(azp="another"),
    "another nonce": lambda p: p.good_token(nonce="x" * 43),
    "no nonce": lambda p: p.good_token(nonce=None),
    "a number for a nonce": lambda p: p.good_token(nonce=1),
    "expired": lambda p: p.good_token(exp=int(time.time()) - 120),
    "no expiry": lambda p: p.good_token(exp=None),
    "an expiry in words": lambda p: p.good_token(exp="tomorrow"),
    "issued in the future": lambda p: p.good_token(iat=int(time.time()) + 3600),
    "no time of issue": lambda p: p.good_token(iat=None),
    "not valid yet": lambda p: p.good_token(nbf=int(time.time()) + 3600),
    "no subject": lambda p: p.good_token(sub=None),
    "an empty subject": lambda p: p.good_token(sub=""),
    "a long subject": lambda p: p.good_token(sub="x" * 256),
    "a subject of another script": lambda p: p.good_token(sub="\u0430nn"),
    "a subject with a NUL": lambda p: p.good_token(sub="ann\0"),
    "algorithm none": lambda p: jwt.encode(p.claims(), None, "none", headers={"kid": KID}),
    "HS256 with the public key": lambda p: forged(p, pem(rsa_key())),
    "HS256 with the client's secret": lambda p: forged(p, CLIENT_SECRET.encode()),
    "HS256 with nothing": lambda p: forged(p, b""),
    "another key of that name": lambda p: p.good_token(rsa_key("evil")),
    "an unknown key": lambda p: p.good_token(rsa_key("evil"), header={"kid": "evil"}),
    "a key that it brings": lambda p: p.good_token(rsa_key("evil"), header={"jwk": jwk(rsa_key("evil"))}),
    "a key from elsewhere": lambda p: p.good_token(rsa_key("evil"), header={"jku": f"{p.issuer}/evil"}),
    "a critical header": lambda p: p.good_token(header={"crit": ["exp"], "exp": 1}),
    "another algorithm than the key's kind": lambda p: p.good_token(ec_key(), "ES256"),
    "no signature": lambda p: p.good_token().rpartition(".")[0] + ".",
    "two segments": lambda p: p.good_token().rpartition(".")[0],
    "a bit of the signature": lambda p: p.good_token()[:-8] + "AAAAAAAA",
    "oversized": lambda p: p.good_token(more="x" * 20_000),
    "empty": lambda p: "",
    "words": lambda p: "not a token",
    "a number": lambda p: 1,
    "a list": lambda p: [p.good_token()],
    "nothing": lambda p: None,
    "claims that are a list": lambda p: jwt.api_jws.encode(b"[]", rsa_key(), "RS256", {"kid": KID}),
    "claims nested deeply": lambda p: jwt.api_jws.encode(b"[" * 9000, rsa_key(), "RS256", {"kid": KID}),
    "an address that is not verified": lambda p: p.good_token(email_verified=False),
    "an address verified in words": lambda p: p.good_token(email_verified="true"),
    "an address verified by 1": lambda p: p.good_token(email_verified=1),
    "nothing of an address's verification": lambda p: p.good_token(email_verified=None),
    "an address of another domain": lambda p: p.good_token(email="ann@evil.example"),
    "an address of a domain below": lambda p: p.good_token(email="ann@sub.acme.example"),
    "an address of two domains": lambda p: p.good_token(email="ann@evil.example@acme.example"),
    "an address of another script": lambda p: p.good_token(email="\u0430nn@acme.example"),
    "an address without a name": lambda p: p.good_token(email="@acme.example"),
    "an address that is no name here": lambda p: p.good_token(email='"a b"@acme.example'),
    "an address that is too long": lambda p: p.good_token(email="x" * 80 + "@acme.example"),
    "no address": lambda p: p.good_token(email=None),
    "a list of addresses": lambda p: p.good_token(email=["ann@acme.example"]),
}


def forged(provider, secret):
    def segment(content):
        return jwt.utils.base64url_encode(json.dumps(content).encode())

    signed = segment({"alg": "HS256", "typ": "JWT", "kid": KID}) + b"." + segment(provider.claims())
    digest = hmac.digest(secret, signed, "sha256")
    return (signed + b"." + jwt.utils.base64url_encode(digest)).decode()


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_is_not_what_was_asked_for_opens_nothing(provider, browser, name):
    provider.token = lambda: TOKENS[name](provider)
    before = contents("acme")["accounts_user"]

    answer = log_in(browser, provider)

    assert is_refused(answer) and answer.content == expected_page(browser)
    assert member_of(browser) is None and identities() == []
    assert contents("acme")["accounts_user"] == before
    provider.token = provider.good_token
    assert log_in(browser, provider).status_code == 302


def expected_page(browser):
    return come_back(browser).content


KEYS = {
    "none": list,
    "no list": lambda: {"kid": KID},
    "no objects": lambda: ["x", None, 1],
    "two of one name": lambda: [jwk(rsa_key()), jwk(rsa_key("other"))],
    "for encryption": lambda: [jwk(rsa_key(), use="enc")],
    "of another algorithm": lambda: [jwk(rsa_key(), alg="RS512")],
    "a secret": lambda: [{"kty": "oct", "kid": KID, "k": "eA"}],
    "of no kind": lambda: [{"kid": KID}],
    "half a key": lambda: [{"kty": "RSA", "kid": KID, "n": "AQAB"}],
    "numbers for text": lambda: [{"kty": "RSA", "kid": KID, "n": 1, "e": 2}],
    "of zero": lambda: [{"kty": "RSA", "kid": KID, "n": "AA", "e": "AA"}],
    "too many": lambda: [jwk(rsa_key("other"), kid=str(n)) for n in range(50)] + [jwk(rsa_key())],
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_are_none_open_nothing(provider, browser, name):
    provider.keys = KEYS[name]()

    assert is_refused(log_in(browser, provider)) and member_of(browser) is None


def test_a_key_that_is_too_short_opens_nothing(provider, browser):
    key = rsa_key("short", 1024)
    provider.keys = [jwk(key)]
    provider.token = lambda: short_token(provider, key)

    assert is_refused(log_in(browser, provider))


def short_token(provider, key):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    parts = [{"alg": "RS256", "typ": "JWT", "kid": KID}, provider.claims()]
    signed = b".".join(jwt.utils.base64url_encode(json.dumps(part).encode()) for part in parts)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + jwt.utils.base64url_encode(signature)).decode()


def right(handler):
    """What would open, if nothing else were wrong."""
    provider = handler.server.provider
    del provider.answers[handler.path]
    return json.dumps(provider.answer(handler.path)).encode()


def dripping(handler):
    """Half a minute of it, if nobody ends it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        for _ in range(600):
            time.sleep(0.05)
            handler.wfile.write(b" ")
    except OSError:
        handler.server.provider.was_cut_off.set()


ANSWERS = {
    "a redirect": lambda handler: handler.say(right(handler), 302, Location=handler.path),
    "an error": lambda handler: handler.say(right(handler), 500),
    "a refusal": lambda handler: handler.say(b'{"error": "invalid_grant"}', 400),
    "created": lambda handler: handler.say(right(handler), 201),
    "nothing": b"",
    "HTML": b"<html>",
    "a list": [],
    "null": None,
    "nested deeply": b"[" * 100_000,
    "not UTF-8": b'{"keys": "\xff"}',
    "huge": lambda handler: handler.say(right(handler) + b" " * 300_000),
    "half of it": lambda handler: handler.say(b'{"keys": [', 200, **{"Content-Length": "500"}),
    "a length that is none": lambda handler: handler.say(b"{}", 200, **{"Content-Length": "many"}),
    "no HTTP": lambda handler: handler.wfile.write(b"220 smtp ready\r\n"),
    "a closed connection": lambda handler: None,
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("path", ["/token", "/keys"])
def test_an_answer_that_is_none_opens_nothing(provider, browser, path, name):
    provider.answers[path] = ANSWERS[name]

    assert is_refused(log_in(browser, provider)) and member_of(browser) is None
    assert [asked[1] for asked in provider.asked].count(path) == 1
    provider.answers.clear()
    assert log_in(browser, provider).status_code == 302


def test_who_answers_a_byte_at_a_time_is_cut_off(provider, browser, monkeypatch):
    monkeypatch.setattr(outside, "TOTAL_SECONDS", 0.5)
    provider.answers["/token"] = dripping

    assert is_refused(log_in(browser, provider))
    assert provider.was_cut_off.wait(60)


# What the browser brings back.

BROUGHT = {
    "no state": lambda asked: {"code": "c"},
    "an empty state": lambda asked: {"code": "c", "state": ""},
    "another state": lambda asked: {"code": "c", "state": "x" * 43},
    "a state of another script": lambda asked: {"code": "c", "state": "\u0430" * 43},
    "half a state": lambda asked: {"code": "c", "state": asked["state"][:-1]},
    "two states": lambda asked: {"code": "c", "state": [asked["state"], asked["state"]]},
    "no code": lambda asked: {"state": asked["state"]},
    "an empty code": lambda asked: {"state": asked["state"], "code": ""},
    "two codes": lambda asked: {"state": asked["state"], "code": ["a", "b"]},
    "an error": lambda asked: {"state": asked["state"], "error": "access_denied"},
    "another issuer": lambda asked: {"state": asked["state"], "code": "c", "iss": "https://id.evil.example"},
    "the nonce for a state": lambda asked: {"code": "c", "state": asked["nonce"]},
    "nothing": lambda asked: {},
}


@pytest.mark.parametrize("name", BROUGHT)
def test_what_the_browser_did_not_take_along_opens_nothing(provider, browser, name):
    asked = begin(browser)
    provider.nonce = asked["nonce"]

    answer = come_back(browser, **BROUGHT[name](asked))

    assert is_refused(answer) and answer.content == expected_page(browser)
    assert "/token" not in [each[1] for each in provider.asked]
    assert is_refused(come_back(browser, code="c", state=asked["state"]))  # what was begun is over


def test_a_log_in_ends_where_it_began_once_and_soon(provider, browser, monkeypatch):
    asked = begin(browser)
    provider.nonce = asked["nonce"]

    assert is_refused(come_back(Client(), code="c", state=asked["state"]))
    assert come_back(browser, code="c", state=asked["state"]).status_code == 302
    assert is_refused(come_back(browser, code="c", state=asked["state"]))
    asked = begin(browser)
    provider.nonce = asked["nonce"]
    monkeypatch.setattr("tenants.accounts.oidc.BEGUN_FOR_SECONDS", -1)
    assert is_refused(come_back(browser, code="c", state=asked["state"]))


def test_a_provider_that_says_it_names_itself_has_to(provider, browser):
    names_itself = provider.discovery() | {"authorization_response_iss_parameter_supported": True}
    provider.answers["/.well-known/openid-configuration"] = names_itself
    configure(provider)
    asked = begin(browser)
    provider.nonce = asked["nonce"]

    assert is_refused(come_back(browser, code="c", state=asked["state"]))
    asked = begin(browser)
    provider.nonce = asked["nonce"]
    assert come_back(browser, code="c", state=asked["state"], iss=provider.issuer).status_code == 302


OTHERS = {
    "issuer": ({"issuer": "https://id.other.example"}, {"iss": "https://id.other.example"}),
    "client": ({"client_id": "other"}, {"aud": "other"}),
}


@pytest.mark.parametrize(("change", "claims"), OTHERS.values(), ids=OTHERS)
def test_a_log_in_that_was_begun_with_another_provider_opens_nothing(provider, browser, change, claims):
    """Whatever the one that is there now signs."""
    asked = begin(browser)
    provider.nonce, provider.token = asked["nonce"], lambda: provider.good_token(**claims)
    with tenant_context("acme"):
        IdentityProvider.objects.update(**change)

    assert is_refused(come_back(browser, code="c", state=asked["state"]))


# Tenants.


def test_one_tenants_provider_logs_nobody_into_another(provider, browser, globex):
    """Its session, its state, its code and its token, each brought to the other."""
    asked = begin(browser)
    provider.nonce = asked["nonce"]
    with HostileProvider() as theirs:
        configure(theirs, "globex")
        for cookie in ("sessionid", "sessionid_globex"):
            browser.cookies[cookie] = browser.cookies["sessionid_acme"].value
            browser.cookies[cookie]["path"] = "/"
        assert is_refused(come_back(browser, "globex", code="c", state=asked["state"]))
        other = begin(browser, "globex")
        assert is_refused(come_back(browser, "globex", code="c", state=asked["state"]))
        theirs.token = provider.good_token  # the other tenant's provider's own
        other = begin(browser, "globex")
        provider.nonce = other["nonce"]
        assert is_refused(come_back(browser, "globex", code="c", state=other["state"]))

    assert member_of(browser, "globex") is None and identities("globex") == []


def test_the_same_provider_and_client_of_two_tenants_open_each_its_own(provider, browser, globex):
    configure(provider, "globex")
    log_in(browser, provider)
    asked = begin(browser)

    assert is_refused(come_back(browser, "globex", code="c", state=asked["state"]))
    assert (member_of(browser), member_of(browser, "globex"), identities("globex")) == ("ann@acme.example", None, [])


def test_a_sealed_client_secret_opens_in_its_own_tenant_alone(provider, browser, globex):
    configure(provider, "globex")
    with tenant_context("acme"):
        sealed = IdentityProvider.objects.get().sealed_client_secret
    with tenant_context("globex"):
        IdentityProvider.objects.update(sealed_client_secret=sealed)

    assert is_refused(log_in(browser, provider, "globex"))


@pytest.mark.parametrize("slug", ["acme", "globex", "nobody"])
@pytest.mark.parametrize(("method", "page"), [("post", "login"), ("get", "login"), ("get", "callback")])
def test_without_a_provider_a_tenant_answers_as_one_that_is_not_there(provider, globex, slug, method, page):
    with tenant_context("acme"):
        IdentityProvider.objects.update(is_active=False)

    def ask(slug):
        return form(getattr(Client(), method)(f"/t/{slug}/oidc/{page}/"), slug)

    assert ask(slug) == ask("nobody")


def test_a_log_in_begins_with_the_form_of_the_log_in_page_alone(provider):
    browser = Client(enforce_csrf_checks=True)
    shown = browser.get("/t/acme/login/").content.decode()
    token = re.search(r'action="/t/acme/oidc/login/" method="post".*?value="(\w+)"', shown)[1]
    answers = [browser.get("/t/acme/oidc/login/"), browser.post("/t/acme/oidc/login/")]

    assert [answer.status_code for answer in answers] == [405, 403] and "sessionid_acme" not in browser.cookies
    assert led_to(browser, csrfmiddlewaretoken=token).startswith(provider.issuer)


def test_only_a_post_goes_to_the_provider_and_only_a_get_comes_back(provider, browser):
    asked = begin(browser)
    back = {"code": "c", "state": asked["state"]}

    for method in ("head", "get", "put"):
        assert getattr(browser, method)("/t/acme/oidc/login/").status_code == 405
    for method in ("head", "post", "put"):
        assert getattr(browser, method)("/t/acme/oidc/callback/", back).status_code == 405
    assert [each[1] for each in provider.asked] == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("state", ["suspended", "deleting"])
def test_a_tenant_that_is_not_served_logs_nobody_in(provider, browser, state):
    asked = begin(browser)
    provider.nonce = asked["nonce"]
    set_state("acme", state)

    assert is_refused(come_back(browser, code="c", state=asked["state"]))
    assert is_refused(browser.post("/t/acme/oidc/login/"))


# Accounts.

TAKEN = {
    "an account with a password": {"password": "a long enough secret"},
    "a disabled account": {"is_active": False},
}


@pytest.mark.parametrize("fields", TAKEN.values(), ids=TAKEN)
def test_an_address_opens_no_account_that_does_not_wait_for_it(provider, browser, fields):
    with tenant_context("acme"):
        get_user_model().objects.create_user("ann", email="ann@acme.example", **fields)

    assert is_refused(log_in(browser, provider)) and member_of(browser) is None
    assert identities() == []


def test_of_two_accounts_of_one_address_neither_is_opened(provider, browser):
    waiting_account()
    waiting_account(username="ann2")

    assert is_refused(log_in(browser, provider)) and identities() == []


def test_an_account_that_a_subject_has_is_no_other_subjects(provider, browser):
    waiting_account()
    assert log_in(browser, provider).status_code == 302
    provider.token = lambda: provider.good_token(sub="subject-2")

    assert is_refused(log_in(Client(), provider)) and identities() == [("ann", "subject-1")]


def test_a_name_that_is_taken_is_not_made_again(provider, browser):
    with tenant_context("acme"):
        get_user_model().objects.create_user("ann@acme.example", "a long enough secret", email="other@acme.example")

    assert is_refused(log_in(browser, provider)) and identities() == []


def test_where_members_have_to_exist_nobody_is_made(provider, browser):
    configure(provider, makes_members=False)

    assert is_refused(log_in(browser, provider)) and identities() == []


def test_a_disabled_member_stays_out_and_is_put_out(provider, browser):
    log_in(browser, provider)
    before = browser.get("/t/acme/").status_code
    with tenant_context("acme"):
        get_user_model().objects.filter(email="ann@acme.example").update(is_active=False)

    assert (before, browser.get("/t/acme/").status_code) == (200, 302)
    assert is_refused(log_in(Client(), provider))


def test_a_second_factor_is_the_providers_matter(provider, browser):
    with tenant_context("acme"):
        SignInPolicy.objects.create(requires_second_factor=True)
    log_in(browser, provider)

    assert browser.get("/t/acme/").status_code == 200
    assert browser_of("/t/acme/", "tom").get("/t/acme/")["Location"] == "/t/acme/second-factor/"


def test_failures_are_counted_for_the_address_and_log_ins_taken_back(provider, browser):
    assert is_refused(come_back(browser))
    assert log_in(browser, provider).status_code == 302
    assert counted("acme", "address") == [1]
    set_failures("acme", "address", 99)
    assert [come_back(browser).status_code for _ in range(2)] == [403, 429]


def test_who_has_no_password_ends_their_other_sessions_without_one(provider, browser):
    log_in(browser, provider)
    other = Client()
    log_in(other, provider)

    assert b'type="password"' not in browser.get("/t/acme/open-sessions/").content
    assert b"Ended: 1" in browser.post("/t/acme/open-sessions/", {"end": "others"}).content
    assert [each.get("/t/acme/").status_code for each in (browser, other)] == [200, 302]


def test_an_owner_without_a_password_gives_themselves_one_on_their_accounts_page(provider, browser):
    account = waiting_account(role="owner")
    log_in(browser, provider)
    new = {"password1": "another good secret", "password2": "another good secret", "set-password": ""}

    answer = browser.post(f"/t/acme/accounts/user/{account.pk}/password/", new)
    assert (answer.status_code, answer["Location"]) == (302, f"/t/acme/accounts/user/{account.pk}/change/")
    assert browser_of("/t/acme/", "ann", password="another good secret").get("/t/acme/").status_code == 200


# What an owner says of it.


def settings_of(provider, **changes):
    return {
        "is_active": "on", "issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        "allowed_domains": "Acme.example, other.example", "makes_members": "on", "role": "tester",
    } | changes  # fmt: skip


def save(browser, provider, **changes):
    with tenant_context("acme"):
        read = IdentityProvider.objects.values("version").first() or {}
    return browser.post("/t/acme/oidc/", settings_of(provider, **read | changes)).content


def kept():
    with tenant_context("acme"):
        return IdentityProvider.objects.get()


def test_an_owner_says_which_provider_it_is(provider, browser, caplog):
    caplog.set_level(logging.DEBUG)
    with tenant_context("acme"):
        IdentityProvider.objects.all().delete()
    owner = browser_of("/t/acme/", "alice")
    saved = save(owner, provider)

    assert b"The provider answered as it should" in saved and b"http://testserver/t/acme/oidc/callback/" in saved
    assert (kept().domains, kept().issuer) == (["acme.example", "other.example"], provider.issuer)
    assert log_in(browser, provider).status_code == 302
    shown = saved.decode() + owner.get("/t/acme/oidc/").content.decode() + str(contents("acme")) + caplog.text
    assert CLIENT_SECRET not in shown and CLIENT_SECRET.replace("'", "&#x27;") not in shown


def test_a_secret_goes_to_no_other_provider_than_it_was_given_for(provider):
    owner = browser_of("/t/acme/", "alice")
    before = kept().sealed_client_secret

    assert b"Saved." in save(owner, provider, client_secret="", role="reader")
    with HostileProvider() as other:
        assert b"Say the secret" in save(owner, other, client_secret="")
    assert b"Say the secret" in save(owner, provider, client_secret="", client_id="another")
    assert (kept().issuer, kept().role, kept().sealed_client_secret) == (provider.issuer, "reader", before)


def test_what_another_owner_has_changed_meanwhile_is_not_written_over(provider):
    owner = browser_of("/t/acme/", "alice")
    version = kept().version
    assert b"Saved." in save(owner, provider, role="reader")

    stale = save(owner, provider, version=version, role="manager")
    assert b"Somebody else has changed this" in stale and kept().role == "reader"
    assert f'name="version" value="{kept().version}"'.encode() in stale
    assert b"Saved." in save(owner, provider, role="manager") and kept().role == "manager"


WRONG_SETTINGS = {
    "no domain": {"allowed_domains": " , "}, "no domain's form": {"allowed_domains": "@acme.example"},
    "everybody's domain": {"allowed_domains": "*"}, "new owners": {"role": "owner"}, "no role": {"role": "ghost"},
    "no client": {"client_id": ""}, "no issuer": {"issuer": ""},
}  # fmt: skip


@pytest.mark.parametrize("changes", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_settings_that_are_wrong_are_not_saved(provider, changes):
    before = contents("acme")["accounts_identityprovider"]

    assert b"Saved." not in save(browser_of("/t/acme/", "alice"), provider, **changes)
    assert contents("acme")["accounts_identityprovider"] == before


DISCOVERIES = {
    "another issuer": {"issuer": "https://id.evil.example"},
    "no token endpoint": {"token_endpoint": None},
    "no keys": {"jwks_uri": 1},
    "keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "keys without TLS": {"jwks_uri": "http://id.example.com/keys"},
    "a log-in page that is a script": {"authorization_endpoint": "javascript:alert(1)"},
    "a log-in page with a user": {"authorization_endpoint": "https://a@id.example.com/"},
}


@pytest.mark.parametrize("changes", DISCOVERIES.values(), ids=DISCOVERIES)
def test_a_provider_that_describes_itself_wrongly_is_not_saved(provider, changes):
    provider.answers["/.well-known/openid-configuration"] = provider.discovery() | changes

    assert b"Saved." not in save(browser_of("/t/acme/", "alice"), provider)


def test_who_is_no_owner_says_nothing_of_it(provider):
    for browser in (browser_of("/t/acme/", "tom"),):
        assert browser.get("/t/acme/oidc/").status_code == 403
        assert browser.post("/t/acme/oidc/", settings_of(provider)).status_code == 403


# A real provider.


@pytest.fixture
def real(acme, settings, tmp_path):
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = True
    program = Path(real_provider.__file__)
    with ServedSocket() as listening:
        command = [sys.executable, "-W", "ignore", program, str(listening.fd), tmp_path]
        command += ["http://testserver/t/acme/oidc/callback/"]
        process = subprocess.Popen(command, pass_fds=[listening.fd], cwd=tmp_path)
        try:
            issuer = f"http://127.0.0.1:{listening.port}/o"
            with requests.Session() as first:  # waits until it has made its database
                first.trust_env = False
                assert first.get(f"{issuer}/.well-known/openid-configuration", timeout=300).json()["issuer"] == issuer
            yield issuer
        finally:
            process.terminate()
            process.wait(20)


def at_the_provider(url, name):
    """A browser that logs in there; where it is sent to in the end."""
    origin = url.partition("/o/")[0]
    with requests.Session() as person:
        person.trust_env = False
        answer = person.get(url, allow_redirects=False, timeout=60)
        page = origin + answer.headers["Location"]
        person.get(page, timeout=60)
        typed = {"username": name, "password": real_provider.PASSWORD}
        typed["csrfmiddlewaretoken"] = person.cookies["csrftoken"]
        answer = person.post(page, typed, allow_redirects=False, timeout=60)
        answer = person.get(origin + answer.headers["Location"], allow_redirects=False, timeout=60)
        return answer.headers["Location"]


def test_members_log_in_by_a_real_provider(real, browser, alice):
    owner = browser_of("/t/acme/", "alice")
    said = {
        "is_active": "on", "issuer": real, "client_id": real_provider.CLIENT_ID, "role": "reader",
        "client_secret": real_provider.CLIENT_SECRET, "allowed_domains": "acme.example", "makes_members": "on",
    }  # fmt: skip
    assert b"The provider answered as it should" in owner.post("/t/acme/oidc/", said).content

    outcomes = {}
    for name in real_provider.PEOPLE:
        browser = Client()
        back = at_the_provider(led_to(browser), name)
        assert is_refused(Client().get(back))  # from another browser
        outcomes[name] = [browser.get(back).status_code, member_of(browser)]

    assert outcomes == {"ann": [302, "ann@acme.example"], "eve": [403, None], "dan": [403, None]}
    again = Client()
    back = at_the_provider(led_to(again), "ann")
    assert (again.get(back).status_code, member_of(again)) == (302, "ann@acme.example")
