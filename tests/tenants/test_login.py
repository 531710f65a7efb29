"""Logging in over REST: who may not is not told why, and the work done does not tell either."""

import pytest
from django.test import Client
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from tenants.accounts.api import TokenView
from tenants.context import tenant_context
from tenants.exceptions import InvalidTokenError
from tests.installation import PASSWORD
from tests.tenants.states import set_state

UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
WRONG = "not the right password"
FAILURES = {
    "unknown tenant": ("nobody", "alice", PASSWORD),
    "malformed slug": ("../acme", "alice", PASSWORD),
    "slug in upper case": ("ACME", "alice", PASSWORD),
    "slug with a space": ("acme ", "alice", PASSWORD),
    "slug of another script": ("\u0430cme", "alice", PASSWORD),
    "reserved slug": ("operator", "oscar", PASSWORD),
    "unknown user": ("acme", "nobody", PASSWORD),
    "user in upper case": ("acme", "ALICE", PASSWORD),
    "user with a space": ("acme", "alice ", PASSWORD),
    "user of another tenant": ("acme", "mallory", PASSWORD),
    "operator": ("acme", "oscar", PASSWORD),
    "wrong password": ("acme", "alice", WRONG),
    "password with a space": ("acme", "alice", PASSWORD + " "),
    "disabled user": ("acme", "tom", PASSWORD),
    "disabled user, wrong password": ("acme", "tom", WRONG),
    "tenant being made": ("making", "alice", PASSWORD),
    "deleted tenant": ("gone", "alice", PASSWORD),
}


@pytest.fixture
def tom_is_disabled(tom):
    with tenant_context("acme"):
        type(tom).objects.filter(pk=tom.pk).update(is_active=False)


def log_in(tenant, username, password):
    body = {"tenant": tenant, "username": username, "password": password}
    return APIClient().post("/api/v1/token/", body, format="json")


def headers(answer):
    return {name: value for name, value in answer.items() if name not in ("X-Request-ID", "Date")}


def test_a_member_of_an_active_tenant_gets_tokens_that_open_that_tenant(acme, globex):
    tokens = log_in("acme", "alice", PASSWORD).json()

    me = APIClient().get("/api/v1/me/", headers={"Authorization": f"Bearer {tokens['access']}"})
    again = APIClient().post("/api/v1/token/refresh/", {"refresh": tokens["refresh"]}, format="json")

    assert me.json() | {"id": None} == {
        "id": None, "username": "alice", "role": "owner", "tenant": "acme", "tenant_name": "Acme",
        "support_access": [],
    }  # fmt: skip
    assert set(tokens) == {"access", "refresh"}
    assert set(again.json()) == {"access", "refresh"}


@pytest.mark.parametrize("credentials", FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_log_in_does_not_say_why(acme, globex, tom_is_disabled, hashed, credentials):
    if credentials[0] in ("making", "gone"):
        set_state("globex", {"making": "provisioning", "gone": "deleted"}[credentials[0]])
        credentials = ("globex", "mallory", PASSWORD)
    expected = log_in("acme", "alice", WRONG)
    work = list(hashed)

    answer = log_in(*credentials)

    assert (answer.status_code, answer.json()) == (401, UNAUTHORISED)
    assert answer.content == expected.content
    assert headers(answer) == headers(expected)
    assert len(hashed) == 2 * len(work) == 2


def test_a_log_in_to_no_tenant_fails_with_the_error_of_every_failed_log_in(acme):
    """Whatever answer a project gives to a tenant that is not there, elsewhere."""
    for tenant in ("acme", "nobodys"):
        body = {"tenant": tenant, "username": "alice", "password": WRONG}
        request = Request(APIRequestFactory().post("/", body, format="json"), parsers=[JSONParser()])
        with pytest.raises(InvalidTokenError):
            TokenView().post(request)


def test_a_suspended_tenants_member_is_told_so_after_the_right_password_only(acme, tom_is_disabled):
    set_state("acme", "suspended")

    assert log_in("acme", "alice", WRONG).json() == UNAUTHORISED
    assert log_in("acme", "nobody", PASSWORD).json() == UNAUTHORISED
    assert log_in("acme", "tom", PASSWORD).json() == UNAUTHORISED
    answer = log_in("acme", "alice", PASSWORD)
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_in_maintenance_even_the_log_in_is_unavailable(acme, password):
    set_state("acme", "maintenance")

    answer = log_in("acme", "alice", password)

    assert (answer.status_code, answer.json()["code"]) == (503, "tenant_unavailable")
    assert int(answer["Retry-After"]) > 0


MALFORMED = {
    "a list": b"[]",
    "a string": b'"alice"',
    "null": b"null",
    "a number": b"1",
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"tenant": "\xff"}',
    "a NUL in the slug": b'{"tenant": "ac\\u0000me", "username": "alice", "password": "x"}',
    "a NUL in the name": b'{"tenant": "acme", "username": "al\\u0000ice", "password": "x"}',
    "a NUL in the password": b'{"tenant": "acme", "username": "alice", "password": "\\u0000"}',
    "half a character in the slug": b'{"tenant": "\\ud800", "username": "alice", "password": "x"}',
    "half a character in the name": b'{"tenant": "acme", "username": "\\ud800", "password": "x"}',
    "half a character in the password": b'{"tenant": "acme", "username": "alice", "password": "\\udfff"}',
    "a password of 100,000 characters": b'{"tenant": "acme", "username": "alice", "password": "%s"}' % (b"x" * 100_000),
    "a name of 100,000 characters": b'{"tenant": "acme", "username": "%s", "password": "x"}' % (b"x" * 100_000),
    "numbers": b'{"tenant": 1, "username": 2, "password": 3}',
    "true": b'{"tenant": true, "username": true, "password": true}',
    "objects": b'{"tenant": {}, "username": {"a": 1}, "password": []}',
    "nulls": b'{"tenant": null, "username": null, "password": null}',
    "empty strings": b'{"tenant": "", "username": "", "password": ""}',
    "an emoji for each": '{"tenant": "\U0001f512", "username": "\U0001f512", "password": "\U0001f512"}'.encode(),
    "right to left": '{"tenant": "acme", "username": "\u202ealice", "password": "p\u00e4ssw\u00f6rd"}'.encode(),
    "NaN": b'{"tenant": NaN, "username": "a", "password": "b"}',
    "nested deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_log_in_is_refused_and_breaks_nothing(acme, body):
    answer = APIClient().post("/api/v1/token/", body, content_type="application/json")

    assert answer.status_code in (400, 401)
    assert answer.json()["code"] in ("not_authenticated", "invalid", "parse_error", "bad_request")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_post_logs_in(acme, method):
    assert getattr(APIClient(), method)("/api/v1/token/").status_code == 405


@pytest.mark.parametrize("slug", ["acme", "nobody"])
@pytest.mark.parametrize("username", ["alice", "nobody", "tom"])
def test_the_form_of_a_workspace_does_as_much_work_for_every_failure(acme, tom_is_disabled, hashed, slug, username):
    password = PASSWORD if (slug, username) != ("acme", "alice") else WRONG

    answer = Client().post(f"/t/{slug}/login/", {"username": username, "password": password})

    assert (answer.status_code, len(hashed)) == (200, 1)


def test_a_session_of_the_workspace_does_not_open_the_api(acme):
    browser = Client()
    browser.post("/t/acme/login/", {"username": "alice", "password": PASSWORD})
    browser.cookies["sessionid"] = browser.cookies["sessionid_acme"].value
    browser.cookies["sessionid"]["path"] = "/"

    assert browser.get("/api/v1/me/").status_code == 401
