"""What every answer of every route says to browsers besides its content, refusals included."""

import re
from contextlib import closing

import pytest
from django.test import Client

from scans.models import Target
from tenants.context import tenant_context
from tests.installation import PASSWORD
from tests.routes.asking import METHODS, ask, body_of, content, path_to
from tests.routes.walking import API, OPERATOR, WORKSPACE, all_routes
from tests.tenants.browsing import COOKIES, log_in
from tests.tenants.states import set_state

ROUTES = {route.name: route for route in all_routes()}
UNKNOWN_METHODS = ["TRACE", "TRACK", "CONNECT", "PROPFIND", "DEBUG", "XYZ"]
FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OTHER_SITE = {
    "Origin": "https://evil.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}
SPEAKING = ("Server", "X-Powered-By", "X-AspNet-Version", "Via")  # of what answers, and in which version


def directives(answer):
    """The policy's, each with its sources."""
    return {part.split()[0]: part.split()[1:] for part in answer["Content-Security-Policy"].split(";")}


def faults(answer):
    """What is wrong with the headers of one answer."""
    found = [f"{name}: {answer.get(name)}" for name, value in FIXED.items() if answer.get(name) != value]
    found += [name for name in answer.headers if name in SPEAKING or name.lower().startswith("access-control-")]
    policy = directives(answer)
    for name in ("default-src", "object-src", "base-uri", "frame-ancestors"):
        if name != "object-src" and policy.get(name) != ["'none'"] or policy.get(name, ["'none'"]) != ["'none'"]:
            found.append(f"{name} {policy.get(name)}")
    sources = {source for each in policy.values() for source in each}
    found += [source for source in sources if not re.fullmatch(r"'(none|self|sha256-[\w+/]{43}=)'|data:", source)]
    if "data:" in policy.get("script-src", []) or "Permissions-Policy" not in answer.headers:
        found.append("data: or Permissions-Policy")
    if answer.get("Content-Type", "").startswith("text/") and "charset=utf-8" not in answer["Content-Type"].replace(
        '"', ""
    ):
        found.append(answer["Content-Type"])
    return found


@pytest.mark.parametrize("name", ROUTES)
def test_every_answer_of_a_route_carries_the_headers_and_none_lets_another_site_read_it(world, name):
    route = ROUTES[name]
    path, _ = path_to(route, world, "control" if route.mount == OPERATOR else "acme")
    for persona in ("anonymous", "operator" if route.mount == OPERATOR else "owner"):
        client = world.client(persona)
        for header, value in OTHER_SITE.items():
            client.defaults[f"HTTP_{header.upper().replace('-', '_')}"] = value
        for method in METHODS:
            client.cookies = world.cookies(persona)
            answer = ask(client, method, path, body_of(route, world, method))
            assert faults(answer) == [], f"{method} by {persona}"


def test_a_method_that_nothing_has_is_refused_everywhere_and_repeats_nothing(world):
    clients = [world.client(persona) for persona in ("anonymous", "owner", "operator")]
    for route in ROUTES.values():
        path, _ = path_to(route, world, "control" if route.mount == OPERATOR else "acme")
        for client in clients:
            for method in UNKNOWN_METHODS:
                answer = client.generic(method, path, "canary", content_type="text/plain", headers={"X-Echo": "canary"})
                assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE")
                assert "canary" not in content(answer)
                assert faults(answer) == []


@pytest.mark.parametrize("state", ["suspended", "maintenance", "deleted"])
def test_a_tenant_that_is_not_served_answers_with_the_headers_too(world, state):
    set_state("acme", state)

    client = world.client("owner")
    for route in ROUTES.values():
        if route.mount in (API, WORKSPACE):
            for method in ("GET", "POST"):
                answer = ask(client, method, path_to(route, world, "acme")[0])
                assert faults(answer) == [], f"{method} {route.name}"


def test_static_files_carry_the_headers_and_may_be_kept_since_they_are_everybodys(world):
    with closing(world.client("owner").get("/static/admin/css/base.css")) as answer:
        assert "max-age" in answer["Cache-Control"]
        assert faults(answer) == [f"Cache-Control: {answer['Cache-Control']}"]
    for missing in ("/static/", "/static/admin/", "/static/nothing.css", "/static/../config/settings.py"):
        answer = world.client("owner").get(missing)
        assert answer.status_code == 404
        assert faults(answer) == []


def test_a_method_is_what_the_request_line_says(world):
    path = f"/api/v1/targets/{world.ids['acme']['target']}/"
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        for method, meant in (("GET", "PATCH"), ("POST", "PATCH"), ("POST", "GET")):
            answer = world.client("owner").generic(
                method, f"{path}?_method={meant}", b'{"name": "overridden", "version": 1, "_method": "PATCH"}',
                content_type="application/json", headers={header: meant},
            )  # fmt: skip
            assert answer.status_code == (200 if method == "GET" else 405)
    with tenant_context("acme"):
        assert not Target.objects.filter(name="overridden").exists()


def test_a_parameter_that_is_there_twice_is_refused(world):
    client = world.client("owner")
    for query in ("limit=1&limit=2", "limit=1&offset=0&limit=1", "state=open&state=fixed", "a=&a="):
        answer = client.get(f"/api/v1/findings/?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert world.client("anonymous").get(f"/api/v1/findings/?{query}").status_code == 400
    assert client.get("/api/v1/findings/?limit=1&offset=0").status_code == 200


def test_a_parameter_of_the_query_is_none_of_the_body_nor_the_other_way_round(world):
    client = world.client("anonymous")
    credentials = {"tenant": "acme", "username": "alice", "password": PASSWORD}

    answer = client.post("/api/v1/token/?tenant=acme&username=alice", {"password": PASSWORD}, "application/json")
    assert answer.status_code == 401 or sorted(answer.json()["errors"]) == ["tenant", "username"]
    assert client.post("/api/v1/token/?tenant=globex", credentials, "application/json").status_code == 200


@pytest.mark.parametrize("site", COOKIES)
def test_a_cookie_is_read_by_no_script_and_sent_from_no_other_sites_form(installation, acme, globex, site):
    browser = Client()
    browser.get(f"{site}login/")
    log_in(browser, site)

    for cookie in browser.cookies.values():
        assert (cookie["httponly"], cookie["samesite"], cookie["domain"]) == (True, "Lax", "")


def test_what_is_for_everybody_sets_no_cookie(installation):
    for path in ("/", "/healthz", "/readyz", "/api/schema/", "/api/docs/", "/api/docs/?script=", "/api/v1/me/"):
        assert Client().get(path).cookies == {}, path


@pytest.fixture
def https(settings, world):
    """As ``BULKHEAD_HTTPS=true`` and one proxy would have it."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = 31_536_000, True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    return world


@pytest.mark.parametrize("site", COOKIES)
def test_under_tls_cookies_are_sent_by_tls_alone_and_named_so(https, site):
    browser = Client(headers={"X-Forwarded-Proto": "https"})
    browser.get(f"{site}login/")
    assert log_in(browser, site).status_code == 302

    plane = COOKIES[site]
    assert set(browser.cookies) == {f"__Secure-sessionid_{plane}", f"__Secure-csrftoken_{plane}"}
    assert all(cookie["secure"] and cookie["path"] == site for cookie in browser.cookies.values())
    assert browser.get(site).status_code == 200
    plain = browser.cookies[f"__Secure-sessionid_{plane}"].value
    other = Client(headers={"X-Forwarded-Proto": "https"})
    other.cookies[f"sessionid_{plane}"] = plain  # which a page without TLS could have set
    assert other.get(site).status_code == 302


def test_under_tls_a_cookie_that_is_taken_back_is_one_that_the_browser_has(https):
    browser = Client(headers={"X-Forwarded-Proto": "https"})
    log_in(browser, "/t/acme/")
    answer = browser.post("/t/acme/logout/")

    cookie = answer.cookies["__Secure-sessionid_acme"]
    assert (cookie.value, cookie["max-age"], cookie["secure"], cookie["path"]) == ("", 0, True, "/t/acme/")


def test_under_tls_every_answer_says_to_stay_there(https):
    client = Client(headers={"X-Forwarded-Proto": "https"})
    for path in ("/t/acme/login/", "/operator/", "/api/v1/me/", "/api/docs/", "/nothing", "/healthz"):
        assert client.get(path)["Strict-Transport-Security"].startswith("max-age=31536000; includeSubDomains"), path


def test_under_tls_pages_lead_there_and_programs_are_refused(https):
    client = Client()
    for path in ("/t/acme/login/", "/operator/login/", "/api/docs/", "/nothing"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (301, f"https://testserver{path}")
    for path in ("/api/v1/me/", "/api/v1/token/", "/api/v1/nothing/", "/api/schema/"):
        for method in ("GET", "POST"):
            answer = client.generic(method, path)
            assert (answer.status_code, answer.json()["code"]) == (400, "https_required")
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
