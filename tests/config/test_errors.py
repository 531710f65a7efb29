"""The error contract: one form, never 500 for what a client sends, and nothing kept by a cache."""

import json
import logging
from uuid import uuid4

import pytest
from django.db import IntegrityError, OperationalError
from django.test import RequestFactory
from rest_framework.test import APIClient

from config.api import bad_request, server_error
from scans.models import Target
from tenants.context import tenant_context
from tenants.exceptions import TenantSuspendedError
from tests.scans.rows import make_target

PATH = "/api/v1/targets/"
TARGET = '{"name": "Web shop", "host": "shop.example.com", "ports": [443]}'
JSON = "application/json"

NOT_JSON_OBJECTS = {
    "nothing that parses": b"{",
    "a list": b"[]",
    "a text": b'"hello"',
    "a number": b"1",
    "null": b"null",
    "two members of one name": TARGET.replace("{", '{"name": "Other", ', 1).encode(),
    "two members of one name deep inside": b'{"a": [{"b": 1, "b": 1}]}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a number beyond floats": b'{"a": 1e999}',
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "NUL in a text": rb'{"name": "a\u0000b", "host": "shop.example.com", "ports": [443]}',
    "NUL in a name": rb'{"a\u0000": 1}',
    "half a surrogate pair": rb'{"name": "\ud800", "host": "shop.example.com", "ports": [443]}',
    "the other half": rb'{"a": ["\udc00"]}',
    "a raw control character": b'{"name": "a\x00b"}',
    "what is not UTF-8": b'{"name": "\xff"}',
    "UTF-16": TARGET.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + TARGET.encode(),
    "20 levels": b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}",
    "100,000 levels": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "two documents": TARGET.encode() * 2,
}


def count_targets():
    with tenant_context("acme"):
        return Target.objects.count()


@pytest.mark.parametrize("body", NOT_JSON_OBJECTS.values(), ids=NOT_JSON_OBJECTS.keys())
def test_a_body_that_is_no_strict_json_object_is_refused(alice_api, body):
    response = alice_api.generic("POST", PATH, body, content_type=JSON)

    assert response.status_code == 400
    assert response.json().keys() == {"code", "detail"}
    assert response.json()["code"] == "parse_error"
    assert count_targets() == 0


def test_a_strict_json_object_is_taken_with_any_text(alice_api):
    body = TARGET.replace("Web shop", r"\ud83d\ude00 Büro ' OR 1=1 --").encode()

    response = alice_api.generic("POST", PATH, body, content_type="application/json; charset=UTF-8")

    assert response.status_code == 201
    assert alice_api.get(f"{PATH}{response.json()['id']}/").json()["name"] == "\N{GRINNING FACE} Büro ' OR 1=1 --"


def test_an_empty_body_lacks_its_fields(alice_api):
    response = alice_api.generic("POST", PATH, b"", content_type=JSON)

    assert response.status_code == 400
    assert response.json()["errors"].keys() == {"name", "host", "ports"}


@pytest.mark.parametrize("size", [256 * 1024 + 1, 5_000_000])
def test_a_body_over_256_KiB_is_refused(alice_api, size):
    padding = TARGET + " " * (256 * 1024 - len(TARGET))

    too_large = alice_api.generic("POST", PATH, (padding + " " * (size - 256 * 1024)).encode(), content_type=JSON)
    largest = alice_api.generic("POST", PATH, padding.encode(), content_type=JSON)

    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")
    assert largest.status_code == 201


TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/xml"]
CHARSETS = ["utf-16", "latin-1", "rot13", "idna", "utf-7", "nonsense"]


@pytest.mark.parametrize("content_type", [*TYPES, *(f"application/json; charset={name}" for name in CHARSETS)])
def test_a_body_of_another_type_is_refused(alice_api, content_type):
    response = alice_api.generic("POST", PATH, TARGET.encode(), content_type=content_type)

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert response.json().keys() == {"code", "detail"}
    assert count_targets() == 0


def call_server(client, method, path, **headers):
    """Through the WSGI application, as a server calls it: the test client makes requests of another class."""
    from config.wsgi import application

    environ = RequestFactory().generic(method, path, TARGET.encode(), content_type=JSON).environ | headers
    environ["HTTP_AUTHORIZATION"] = client.defaults["HTTP_AUTHORIZATION"]
    started = []
    body = b"".join(application(environ, lambda status, headers: started.append(status)))
    return int(started[0].split()[0]), json.loads(body)


ODD_TYPES = [f"application/json; charset={name}" for name in CHARSETS] + [
    "application/json; charset*=nope''x",
    "application/json; x*=rot13''x",
    "application/json; x*=idna''%ff",
]


@pytest.mark.parametrize("content_type", ODD_TYPES)
def test_an_odd_content_type_changes_nothing_of_a_query_and_breaks_nothing(alice_api, content_type):
    reading = call_server(alice_api, "GET", f"{PATH}?limit=1", CONTENT_TYPE=content_type)
    bad_query = call_server(alice_api, "GET", f"{PATH}?limit=1&offset=%ff", CONTENT_TYPE=content_type)
    writing = call_server(alice_api, "POST", f"{PATH}?limit=1", CONTENT_TYPE=content_type)
    empty = call_server(alice_api, "POST", PATH, CONTENT_TYPE=content_type, CONTENT_LENGTH="0")

    assert (reading[0], bad_query[0], bad_query[1]["code"]) == (200, 400, "invalid")
    assert writing[0] in (201, 415)
    assert writing[0] == 415 or "charset" not in content_type
    assert empty[0] == 400


@pytest.mark.parametrize("accept", ["application/json; x*=nope''x", "text/html", "nonsense", "*/*; q=x; q*=0''"])
def test_an_odd_accept_header_is_answered_in_the_form(alice_api, accept):
    status, body = call_server(alice_api, "GET", PATH, HTTP_ACCEPT=accept)

    assert status in (200, 406)
    assert status == 200 or body.keys() == {"code", "detail"}


BAD_PAGES = ["limit=0", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=%D9%A1", "limit=1e3", "limit=%00"]
BAD_PAGES += ["offset=-1", "offset=x", "offset=", "offset=9999999999", "offset=" + "9" * 5000, "limit=" + "9" * 30]


@pytest.mark.parametrize("query", BAD_PAGES)
def test_a_bad_page_is_refused(alice_api, query):
    response = alice_api.get(f"{PATH}?{query}")

    assert response.status_code == 400
    assert list(response.json()["errors"]) == [query.partition("=")[0]]


def test_a_page_has_at_most_200_rows(alice_api, alice):
    with tenant_context("acme"):
        targets = [Target(name=str(number), host="a.example", ports=[1], created_by=alice) for number in range(201)]
        Target.objects.bulk_create(targets)

    page = alice_api.get(f"{PATH}?limit=1000").json()
    rest = alice_api.get(page["next"]).json()
    usual = alice_api.get(PATH).json()

    assert (page["count"], len(page["results"]), len(rest["results"]), len(usual["results"])) == (201, 200, 1, 50)
    assert rest["next"] is None
    assert {row["name"] for row in page["results"] + rest["results"]} == {str(number) for number in range(201)}


MISSING = [
    "/api/v1/nope/",
    "/api/v1/targets",
    "/api/v1/targets/41/",
    "/api/v1/targets/01234567-89ab-7def-8123-456789abcdef/",
    "/api/v1/",
    "/api/",
]


@pytest.mark.parametrize("path", MISSING)
@pytest.mark.parametrize("method", ["get", "post", "patch", "delete"])
def test_a_path_that_nobody_has_is_answered_in_the_form(alice_api, alice, path, method):
    response = getattr(alice_api, method)(path)

    if response.status_code == 405:
        assert (method, response.json()["code"]) != ("get", "method_not_allowed")
    else:
        assert response.status_code == 404
        assert response.content == b'{"code":"not_found","detail":"Not found."}'


def test_missing_pages_outside_the_api_are_told_in_a_sentence(stranger_api):
    response = stranger_api.get("/favicon.ico")

    assert (response.status_code, response.content) == (404, b"Not found.")
    assert response["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_is_not_there_is_answered_in_the_form(alice_api, method):
    response = alice_api.generic(method, PATH)

    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.json().keys() == {"code", "detail"}
    assert "POST" in response["Allow"]


def test_an_unacceptable_answer_is_refused_in_the_form(alice_api):
    response = alice_api.get(PATH, headers={"Accept": "text/html"})

    assert (response.status_code, response.json().keys()) == (406, {"code", "detail"})


def test_format_in_the_query_means_nothing(alice_api):
    assert alice_api.get(f"{PATH}?format=html").status_code == 200


def test_every_refusal_of_a_token_is_the_same_bytes(alice_api, stranger_api, alice, installation):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).update(is_active=False)
    stranger = APIClient(headers={"Authorization": "Bearer x.y.z"})
    wrong = {"tenant": "acme", "username": "tom", "password": "wrong"}

    refusals = [
        stranger_api.get(PATH),
        stranger.get(PATH),
        alice_api.get("/api/v1/me/"),
        stranger_api.post("/api/v1/token/", wrong),
        stranger_api.post("/api/v1/token/", wrong | {"tenant": "nobody"}),
        stranger_api.post("/api/v1/token/", wrong | {"tenant": "ACME"}),
        stranger_api.post("/api/v1/token/refresh/", {"refresh": "x.y.z"}),
    ]

    assert {refusal.status_code for refusal in refusals} == {401}
    assert {refusal.content for refusal in refusals} == {
        b'{"code":"not_authenticated","detail":"The credentials are not valid."}'
    }
    assert {refusal["WWW-Authenticate"] for refusal in refusals} == {"Bearer"}


def test_a_log_in_takes_nothing_but_what_was_written(stranger_api, installation, alice):
    right = {"tenant": "acme", "username": "alice", "password": "correct horse battery staple"}

    assert stranger_api.post("/api/v1/token/", right).status_code == 200
    for padded in (
        right | {"tenant": " acme"},
        right | {"username": "alice "},
        right | {"password": right["password"] + " "},
    ):
        assert stranger_api.post("/api/v1/token/", padded).status_code == 401


@pytest.mark.parametrize(
    "body",
    [{}, {"tenant": 1}, {"tenant": ["acme"]}, {"tenant": "a" * 65, "username": "a", "password": "b"}],
)
def test_a_log_in_of_another_form_is_refused(stranger_api, installation, body):
    response = stranger_api.post("/api/v1/token/", body)

    assert (response.status_code, response.json()["code"]) == (400, "invalid")


def test_nothing_under_the_api_is_kept_by_a_cache(alice_api, stranger_api, alice):
    with tenant_context("acme"):
        target = make_target(alice)
    answers = [
        alice_api.get(PATH),
        alice_api.get(f"{PATH}{target.pk}/"),
        alice_api.get(f"{PATH}{uuid4()}/"),
        alice_api.get("/api/v1/nope/"),
        alice_api.post(PATH, {}),
        alice_api.delete(PATH),
        alice_api.get("/api/v1/me/"),
        stranger_api.get(PATH),
        stranger_api.post("/api/v1/token/", {}),
    ]

    assert [answer["Cache-Control"] for answer in answers] == ["no-store"] * len(answers)
    assert all(answer["X-Request-ID"] for answer in answers)


@pytest.fixture
def break_targets(monkeypatch):
    def breaking(error):
        def get_queryset(view):
            raise error

        monkeypatch.setattr("scans.api.TargetList.get_queryset", get_queryset)

    return breaking


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret of another tenant"), 500, "server_error"),
        (OperationalError(2006, "gone away from 10.1.2.3"), 503, "unavailable"),
        (IntegrityError(1062, "Duplicate entry 'secret'"), 409, "conflict"),
    ],
    ids=["a bug", "no database", "a race"],
)
def test_an_error_of_ours_is_logged_and_says_nothing(alice_api, break_targets, caplog, error, status, code):
    break_targets(error)
    alice_api.raise_request_exception = False

    with caplog.at_level(logging.WARNING):
        response = alice_api.get(PATH)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json().keys() == {"code", "detail"}
    assert str(error.args[-1]) not in response.content.decode()
    assert str(error.args[-1]) in caplog.text
    assert ("Retry-After" in response) == (status == 503)
    assert response["Cache-Control"] == "no-store"


def test_a_database_that_goes_away_before_the_view_is_503(alice_api, monkeypatch, caplog):
    def gone(*args, **kwargs):
        raise OperationalError(2006, "gone away")

    monkeypatch.setattr("tenants.middleware.transaction.atomic", gone)
    alice_api.raise_request_exception = False

    response = alice_api.post(PATH, json.loads(TARGET))

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response["Retry-After"] == "5"


def test_a_foreign_host_name_is_refused_in_the_form(alice_api):
    refused = alice_api.get(PATH, headers={"Host": "evil.example"})

    assert (refused.status_code, refused.json()) == (
        400,
        {"code": "bad_request", "detail": "The request is malformed."},
    )


def test_errors_that_no_view_saw_have_the_form_under_the_api_only():
    api, page = RequestFactory().get("/api/v1/scans/"), RequestFactory().get("/t/acme/")

    try:
        raise TenantSuspendedError("acme")
    except TenantSuspendedError:
        answers = server_error(api), server_error(page)

    assert [answer.status_code for answer in answers] == [403, 403]
    assert json.loads(answers[0].content)["code"] == "tenant_suspended"
    assert answers[1]["Content-Type"] == "text/plain; charset=utf-8"
    assert bad_request(page).content == b"The request is malformed."
