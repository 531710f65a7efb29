"""The web server as it stands there, and what a page, a form or a log line gives away."""

import http.client
import logging
import re
import socket
from datetime import UTC, datetime

import pytest
from django.conf import settings as django_settings
from django.test import Client

from config.logs import LineFormatter
from tests.installation import PASSWORD
from tests.serving import WebServer
from tests.tenants.browsing import SITES, is_in, log_in

SMUGGLED = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = "POST /api/v1/token/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
AMBIGUOUS = {
    "a length and chunks": f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": f"{HEAD}Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n",
    "a list of lengths": f"{HEAD}Content-Length: 0, {len(SMUGGLED)}\r\n\r\n",
    "a signed length": f"{HEAD}Content-Length: +{len(SMUGGLED)}\r\n\r\n",
    "an encoding of an odd name": f"{HEAD}Transfer-Encoding: xchunked\r\n\r\n",
    "a space before the colon": f"{HEAD}Content-Length : {len(SMUGGLED)}\r\n\r\n",
    "a chunk of no size": f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}
SOURCES = ["/.git/config", "/.git/HEAD", "/manage.py", "/config/settings.py", "/.env", "/var/control.sqlite3"]
SOURCES += ["/static/../manage.py", "/static/%2e%2e/manage.py", "/static//etc/passwd", "/static/tenants/"]


def exchange(port, sent):
    """All that the server says on one connection until it closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode("latin-1")


def test_a_request_whose_end_is_ambiguous_is_refused(installation, acme):
    with WebServer(installation) as web:
        assert re.findall(r"HTTP/1.1 (\d+)", exchange(web.port, SMUGGLED)) == ["200"]
        for name, request in AMBIGUOUS.items():
            statuses = re.findall(r"HTTP/1.1 (\d+)", exchange(web.port, request + SMUGGLED))
            assert statuses and set(statuses) <= {"400", "501"}, f"{name}: {statuses}"


def test_a_server_names_no_version_and_gives_no_file_of_its_source(installation, acme):
    with WebServer(installation) as web:
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
        for path in ("/t/acme/login/", "/api/v1/me/", "/nothing"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert not re.search(r"\d", answer.headers.get("Server", "")), path
        for path in SOURCES:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404, b"Not found."), path
        connection.close()


def head(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("HEAD", path, headers={"Host": "localhost", **headers})
        return connection.getresponse()
    finally:
        connection.close()


@pytest.mark.parametrize(("proxies", "status"), [("1", 200), ("0", 301)])
def test_that_tls_was_used_is_believed_of_as_many_proxies_as_there_are(
    installation, acme, monkeypatch, proxies, status
):
    monkeypatch.setenv("BULKHEAD_HTTPS", "true")
    monkeypatch.setenv("BULKHEAD_TRUSTED_PROXIES", proxies)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")  # gunicorn itself believes nobody who asks here
    with WebServer(installation) as web:
        assert head(web.port, "/t/acme/login/").status == 301
        answer = head(web.port, "/t/acme/login/", **{"X-Forwarded-Proto": "https"})

        assert answer.status == status
        if status == 200:
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
            assert answer.headers["Set-Cookie"].startswith("__Secure-csrftoken_acme=")


def test_no_secret_is_taken_from_the_query(alice_api, alice, acme):
    token = alice_api.defaults["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    browser = Client()
    log_in(browser, "/t/acme/")
    session = browser.cookies["sessionid_acme"].value

    for name in ("token", "access_token", "access", "jwt", "api_key", "Authorization", "authorization"):
        assert Client().get("/api/v1/me/", {name: token}).status_code == 401
        assert Client().get("/api/v1/me/", {name: f"Bearer {token}"}).status_code == 401
    for name in ("sessionid", "sessionid_acme"):
        assert Client().get("/t/acme/", {name: session}).status_code == 302
    query = {"tenant": "acme", "username": "alice", "password": PASSWORD}
    assert Client().get("/api/v1/token/", query).status_code == 405
    assert "errors" in Client().post(f"/api/v1/token/?password={PASSWORD}", {}, "application/json").json()


@pytest.mark.parametrize("site", SITES)
def test_a_form_that_is_refused_says_nothing_of_the_inside(acme, globex, site):
    answer = Client(enforce_csrf_checks=True).post(f"{site}login/", {"username": "x", "password": "y"})

    assert (answer.status_code, answer["Content-Type"]) == (403, "text/plain; charset=utf-8")
    assert answer.content == b"This form is not from here, or it is too old. Load it again."


@pytest.mark.parametrize("site", SITES)
def test_a_log_in_makes_a_new_session(acme, globex, site):
    browser, seen = Client(), []
    name = f"sessionid_{site.strip('/').rpartition('/')[2]}"
    browser.cookies[name] = "chosenbysomebodyelsechosenbysome"
    for _ in range(2):
        assert log_in(browser, site).status_code == 302
        seen.append(browser.cookies[name].value)
    thief = Client()
    thief.cookies[name] = seen[0]

    assert len({*seen, "chosenbysomebodyelsechosenbysome"}) == 3
    assert is_in(browser, site)
    assert not is_in(thief, site)


def test_a_session_is_named_by_more_than_128_random_bits(acme):
    keys = set()
    for _ in range(8):
        browser = Client()
        log_in(browser, "/t/acme/")
        keys.add(browser.cookies["sessionid_acme"].value)

    assert len(keys) == 8
    assert all(re.fullmatch(r"[a-z0-9]{32}", key) for key in keys)  # 36 ** 32 is more than 2 ** 165


def test_a_new_password_ends_the_other_sessions_of_its_member(acme):
    here, there = Client(), Client()
    for browser in (here, there):
        log_in(browser, "/t/acme/")
    new = "another correct horse"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post("/t/acme/password_change/", form).status_code == 302

    assert is_in(here, "/t/acme/")
    assert not is_in(there, "/t/acme/")


@pytest.mark.parametrize("site", SITES)
def test_every_page_of_a_session_offers_to_log_out(acme, globex, site):
    browser = Client()
    log_in(browser, site)
    pages = ["", "password_change/", "accounts/user/", "accounts/user/add/"]
    pages += ["scans/target/", "scans/finding/"] if site.startswith("/t/") else ["tenants/tenant/"]

    for page in pages:
        answer = browser.get(site + page)
        assert answer.status_code == 200, page
        assert re.search(rf'<form id="logout-form" method="post" action="{site}logout/">', answer.content.decode()), (
            page
        )


def test_what_is_refused_is_logged_with_its_request(tom_api, stranger_api, caplog):
    with caplog.at_level(logging.WARNING):
        tom_api.delete("/api/v1/targets/", headers={"X-Request-ID": "refused-method-1"})
        tom_api.get("/api/v1/nothing/", headers={"X-Request-ID": "refused-path-1"})
        stranger_api.get("/api/v1/me/", headers={"X-Request-ID": "refused-stranger-1"})

    lines = [(record.request.id, record.status_code) for record in caplog.records if record.name == "django.request"]
    assert lines == [("refused-method-1", 405), ("refused-path-1", 404), ("refused-stranger-1", 401)]


def formatted(message, *arguments, error=None):
    record = logging.LogRecord("x", logging.INFO, __file__, 1, message, arguments, error)
    record.request_id, record.tenant = "-", "-"
    record.created, record.msecs = datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp(), 7.0
    line = django_settings.LOGGING["formatters"]["line"]
    assert line["()"] == "config.logs.LineFormatter"
    return LineFormatter(line["format"], style=line["style"]).format(record)


def test_a_log_line_says_its_moment_in_utc(monkeypatch):
    assert formatted("hello") == "2026-03-29T01:30:00.007Z INFO x [- -] hello"


def test_what_somebody_sent_makes_no_line_of_its_own_in_the_log():
    forged = "a\r\n2026-03-29T01:30:00.000Z INFO x [- -] forged\x1b[2J\x85\u2028\x9b"

    assert formatted("Not found: %s", forged).endswith(
        r"Not found: a\r\n2026-03-29T01:30:00.000Z INFO x [- -] forged\x1b[2J\x85\u2028\x9b"
    )
    assert len(formatted("Not found: %s", forged).splitlines()) == 1


def test_the_apis_description_is_the_same_whatever_is_asked_and_made_once(installation, monkeypatch):
    first = Client().get("/api/schema/")
    monkeypatch.setattr("config.api_docs.SchemaGenerator", None)  # it would have to be made anew with this

    for query in ("version=9", 'version="; x="', "version=%0d%0aX-Evil: 1", "lang=de", "lang=%00", "urlconf=x"):
        answer = Client().get(f"/api/schema/?{query}")
        assert (answer.status_code, answer.content) == (200, first.content), query
        assert answer["Content-Disposition"] == 'inline; filename="bulkhead.yaml"', query
        assert "X-Evil" not in answer
