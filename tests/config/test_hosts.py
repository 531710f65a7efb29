"""The operator console on a host of its own: there alone, and nothing else there."""

from contextlib import closing

import pytest
from django.test import Client

from config.env import ConfigurationError, read_environment
from tests.installation import PASSWORD
from tests.serving import WebServer
from tests.tenants.browsing import log_in

CONSOLE = ["/operator", "/operator/", "/operator/login/", "/operator/tenants/tenant/", "/operator/nothing"]
OTHERS = [
    "/t/acme/",
    "/t/acme/login/",
    "/t/nobody/",
    "/api/v1/me/",
    "/api/v1/token/",
    "/api/schema/",
    "/api/docs/",
    "/",
]
EVERYWHERE = ["/healthz", "/readyz", "/static/admin/css/base.css"]


@pytest.fixture
def hosts(settings, acme):
    settings.BULKHEAD_OPERATOR_HOST = "ops.example"
    settings.ALLOWED_HOSTS = ["members.example", "ops.example"]


def ask(path, host, method="get", **more):
    return getattr(Client(raise_request_exception=False), method)(path, headers={"Host": host} | more)


def is_nothing(answer):
    return answer.status_code == 404 and b"Not found" in answer.content


@pytest.mark.parametrize("host", ["ops.example", "ops.example:8443", "OPS.example", "ops.example."])
def test_on_its_host_the_console_answers_and_nothing_else_does(hosts, host):
    assert not any(is_nothing(ask(path, host)) for path in CONSOLE[:4])
    for path in OTHERS:
        for method in ("get", "post", "options", "delete"):
            assert is_nothing(ask(path, host, method)), f"{method} {path}"


@pytest.mark.parametrize("host", ["members.example", "members.example:8443"])
def test_elsewhere_the_console_is_a_page_that_nobody_has(hosts, host):
    for path in CONSOLE:
        for method in ("get", "post", "options", "delete"):
            assert is_nothing(ask(path, host, method)), f"{method} {path}"
    assert ask("/operator/login/", host).content == ask("/nothing", host).content
    assert ask("/t/acme/login/", host).status_code == 200


def test_health_and_static_files_are_on_both(hosts):
    for host in ("ops.example", "members.example"):
        for path in EVERYWHERE:
            with closing(ask(path, host)) as answer:
                assert answer.status_code == 200, f"{host} {path}"


def test_headers_that_a_proxy_would_set_and_anybody_can_do_not_choose_the_host(hosts):
    forged = {"X-Forwarded-Host": "ops.example", "Forwarded": "host=ops.example", "X-Host": "ops.example"}

    assert is_nothing(ask("/operator/login/", "members.example", **forged))
    assert ask("/operator/login/", "other.example", **forged).status_code == 400


def test_an_operator_logs_in_there_and_the_session_is_worth_nothing_elsewhere(hosts):
    browser = Client(headers={"Host": "ops.example"})
    assert log_in(browser, "/operator/").status_code == 302
    assert browser.get("/operator/tenants/tenant/").status_code == 200
    assert is_nothing(browser.get("/operator/tenants/tenant/", headers={"Host": "members.example"}))


def test_without_one_the_console_is_where_everything_is(acme):
    assert [ask(path, "localhost").status_code for path in ("/operator/login/", "/t/acme/login/")] == [200, 200]


@pytest.mark.parametrize("value", ["https://ops.example", "ops.example:8443", "ops example", "localhost", "ops/"])
def test_what_is_no_host_of_its_own_is_a_fault(monkeypatch, value):
    monkeypatch.setenv("BULKHEAD_OPERATOR_HOST", value)
    with pytest.raises(ConfigurationError, match="BULKHEAD_OPERATOR_HOST"):
        read_environment()


def test_a_server_reads_it_from_its_environment(installation, acme, monkeypatch):
    monkeypatch.setenv("BULKHEAD_OPERATOR_HOST", "Ops.example")
    with WebServer(installation) as web:
        credentials = {"tenant": "acme", "username": "alice", "password": PASSWORD}
        assert web.ask("POST", "/api/v1/token/", credentials)[0] == 200
        assert web.status("/operator/login/") == 404
        assert [web.status(path, "ops.example") for path in ("/operator/login/", "/t/acme/login/")] == [200, 404]
