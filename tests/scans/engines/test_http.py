from dataclasses import dataclass, field

import pytest

from scans.engines import http
from scans.weak_targets import certificates
from scans.weak_targets.server import GOOD_HEADERS, Reply, SiteApp
from tests.scans.engines import servers

OPTIONS = http.Options(seconds_per_request=2)
HSTS = {"Strict-Transport-Security": "max-age=31536000"}
STRICT = {**GOOD_HEADERS, **HSTS}
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEdemo\n-----END PRIVATE KEY-----\n"
BASIC = {"WWW-Authenticate": 'Basic realm="Test"'}


def without(name, headers=GOOD_HEADERS):
    return {key: value for key, value in headers.items() if key != name}


def app(routes=None, always=GOOD_HEADERS, server="demo"):
    """Answers ``routes`` (a path, or a method and a path), else 404; ``/`` is a plain page."""
    table = {"/": Reply("<h1>Hello</h1>"), **(routes or {})}

    def answer(request):
        known = table.get(f"{request.method} {request.path}")
        if known is None and request.method in ("GET", "HEAD"):
            known = table.get(request.path)
        if known is None:
            known = Reply("Not found", 404 if request.method == "GET" else 405)
        return known(request) if callable(known) else known

    return SiteApp(answer, always, server)


def cookie(value):
    return app({"/": Reply("Hello", headers={"Set-Cookie": value})}, STRICT)


def echo(request):
    return Reply(request.raw_head, content_type="message/http")


def mirror_origin(credentials):
    def answer(request):
        allowed = {"Access-Control-Allow-Origin": request.headers.get("Origin", "*")}
        return Reply("{}", headers={**allowed, "Access-Control-Allow-Credentials": credentials})

    return answer


def redirect(inside):
    def answer(request):
        wanted = request.query.partition("next=")[2].partition("&")[0].replace("%3A", ":").replace("%2F", "/")
        return Reply("", 302, headers={"Location": "/home" if inside or not wanted else wanted})

    return answer


def admits(*accepted):
    from base64 import b64encode

    allowed = {"Basic " + b64encode(pair.encode()).decode() for pair in accepted}

    def answer(request):
        given = request.headers.get("Authorization", "")
        is_admitted = given in allowed or (given and "everybody" in accepted)
        return Reply("Welcome") if is_admitted else Reply("No", 401, headers=BASIC)

    return answer


def password_form(action):
    form = f"<form method='post' action='{action}'><input type=\"password\" name='secret'></form>"
    return app({"/": Reply(form)}, STRICT)


@dataclass(frozen=True)
class Case:
    flawed: SiteApp
    fixed: SiteApp
    path: str = "/"
    is_https: bool = False
    routes: dict = field(default_factory=dict)


def file_case(path, content, decoy="<html>Everything is 200 here</html>"):
    return Case(app({path: Reply(content)}), app({path: Reply(decoy)}), path)


CASES = {
    "http.header.hsts-missing": Case(app(), app(always=STRICT), is_https=True),
    "http.header.csp-missing": Case(app(always=without("Content-Security-Policy")), app()),
    "http.header.nosniff-missing": Case(app(always=without("X-Content-Type-Options")), app()),
    "http.header.framing-allowed": Case(
        app(always=without("Content-Security-Policy")),
        app(always={**without("Content-Security-Policy"), "X-Frame-Options": "DENY"}),
    ),
    "http.header.referrer-policy-missing": Case(app(always=without("Referrer-Policy")), app()),
    "http.header.version-disclosed": Case(app(server="nginx/1.18.0"), app(server="nginx")),
    "http.cookie.not-secure": Case(
        cookie("theme=1; HttpOnly; SameSite=Lax"), cookie("theme=1; Secure; HttpOnly; SameSite=Lax"), is_https=True
    ),
    "http.cookie.not-httponly": Case(
        cookie("sessionid=1; Secure; SameSite=Lax"), cookie("csrftoken=1; Secure; SameSite=Lax")
    ),
    "http.cookie.no-samesite": Case(
        cookie("sessionid=1; Secure; HttpOnly"), cookie("sessionid=1; Secure; HttpOnly; SameSite=Strict")
    ),
    "http.form.password-in-clear": Case(
        password_form("http://127.0.0.1:1/login"), password_form("/login"), is_https=True
    ),
    "http.error-details": Case(
        app({"/": Reply("<a href='/x'>x</a>"), "/x": Reply("Traceback (most recent call last):\n", 404)}),
        app({"/": Reply("<a href='/x'>x</a>"), "/x": Reply("Sorry", 404)}),
        "/x",
    ),
    "http.exposed.env": file_case("/.env", "# comment\nSECRET_KEY=hunter2\nexport DEBUG=1\n"),
    "http.exposed.git": file_case("/.git/HEAD", "ref: refs/heads/main\n"),
    "http.exposed.private-key": file_case("/server.key", KEY),
    "http.exposed.database-dump": file_case("/backup.sql", "-- PostgreSQL database dump\n"),
    "http.exposed.backup": file_case("/config.php.bak", "<?php $password = 'x';"),
    "http.exposed.status-page": file_case("/server-status", "<title>Apache Server Status for localhost</title>"),
    "http.directory-listing": file_case("/static/", "<title>Index of /static/</title>"),
    "http.open-redirect": Case(app({"/go": redirect(False)}), app({"/go": redirect(True)}), "/go"),
    "http.cors.reflected-credentials": Case(
        app({"/api/": mirror_origin("true")}), app({"/api/": mirror_origin("false")}), "/api/"
    ),
    "http.method.trace": Case(app({"TRACE /": echo}), app()),
    "http.method.write": Case(
        app({"OPTIONS /": Reply("", 204, headers={"Allow": "GET, PUT"})}),
        app({"OPTIONS /": Reply("", 204, headers={"Allow": "GET, HEAD"})}),
    ),
    "http.auth.default-credentials": Case(
        app({"/admin/": admits("admin:password")}), app({"/admin/": admits("admin:Zq8-unguessable")}), "/admin/"
    ),
    "http.auth.basic-in-clear": Case(app({"/admin/": admits("a:b")}), app({"/admin/": Reply("No", 403)}), "/admin/"),
}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    key = certificates.make_key()
    certificate = certificates.make_certificate(key, servers.ADDRESS, None)
    return certificates.server_context(tmp_path_factory.mktemp("tls"), key, certificate)


def scan(site_app, context=None, options=OPTIONS):
    with servers.site(site_app, context) as port:
        return list(http.run(servers.target(port), options))


def test_every_rule_of_the_engine_has_a_case_here():
    assert set(CASES) == set(http.RULES)


@pytest.mark.parametrize("rule_key", CASES)
def test_the_flaw_is_found_at_its_path_and_every_rule_covered(rule_key, context):
    case = CASES[rule_key]

    events = scan(case.flawed, context if case.is_https else None)

    found = [(finding.rule_key, finding.path) for finding in servers.findings(events)]
    assert (rule_key, case.path) in found
    assert servers.covered_rules(events) == set(http.RULES)


@pytest.mark.parametrize("rule_key", CASES)
def test_the_repaired_site_has_no_such_finding_and_every_rule_is_covered(rule_key, context):
    case = CASES[rule_key]

    events = scan(case.fixed, context if case.is_https else None)

    assert rule_key not in servers.found_rules(events)
    assert servers.covered_rules(events) == set(http.RULES)


@pytest.mark.parametrize("body", ["SECRET=1\n", "ref: refs/heads/main\n", "-- MySQL dump\n", "<?php", KEY])
def test_a_site_that_answers_everything_alike_exposes_no_file(body):
    events = scan(SiteApp(lambda request: Reply(body, content_type="text/plain")))

    assert not {key for key in servers.found_rules(events) if key.startswith("http.exposed")}


def test_where_any_password_is_admitted_none_was_guessed():
    events = scan(app({"/admin/": admits("everybody")}))

    assert servers.found_rules(events) == {"http.auth.basic-in-clear"}


def test_the_values_of_an_exposed_environment_file_are_not_kept():
    events = scan(CASES["http.exposed.env"].flawed)

    (finding,) = [f for f in servers.findings(events) if f.rule_key == "http.exposed.env"]
    assert "SECRET_KEY" in finding.evidence
    assert "hunter2" not in finding.evidence


def test_links_are_followed_over_get_but_not_where_they_log_out_or_delete():
    seen = []

    def answer(request):
        seen.append((request.method, request.path))
        return Reply("<a href='/next'>n</a><a href='/logout'>l</a><a href='/item/delete'>d</a>")

    scan(SiteApp(answer), options=http.Options(max_pages=10))

    visited = {path for method, path in seen}
    assert "/next" in visited
    assert "/item/delete" not in visited
    assert {method for method, _ in seen} == {"GET", "TRACE", "OPTIONS"}


def test_an_unfinished_crawl_leaves_what_depends_on_it_uncovered():
    def answer(request):
        return Reply("".join(f"<a href='/page/{number}'>p</a>" for number in range(50)))

    events = scan(SiteApp(answer), options=http.Options(max_pages=5))

    reasons = servers.gaps(events)
    assert reasons["http.header.csp-missing"] == "only the first 5 pages were visited"
    assert "http.exposed.env" in servers.covered_rules(events)


def test_a_spent_request_budget_leaves_the_rest_uncovered():
    events = scan(app(), options=http.Options(max_requests=10))

    assert "budget of 10 requests" in servers.gaps(events)["http.method.trace"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_answer_is_no_clean_answer(status):
    events = scan(app({"/.env": Reply("busy", status)}))

    assert servers.gaps(events) == {"http.exposed.env": f"GET /.env is answered {status}"}


def test_closed_ports_and_other_protocols_are_covered_and_clean():
    with servers.speaks(b"SSH-2.0-demo\r\n") as shell:
        for port in (shell, servers.closed_port()):
            events = list(http.run(servers.target(port), OPTIONS))

            assert servers.findings(events) == []
            assert servers.covered_rules(events) == set(http.RULES)
