"""One name for a request: in its answer, and in every log line that it causes."""

import logging

import pytest
from django.test import Client

from tenants.context import tenant_context
from tenants.request_ids import RequestIDFilter
from tests.tenants.forge import Forge


@pytest.fixture
def client(settings, alice, globex):
    settings.ROOT_URLCONF = settings.WORKSPACE_URLCONF = "tests.tenants.plane_views"
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {Forge(alice).genuine}"})


@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with space", "new\nline-new-line", "späße-oder-so", "a" * 20 + "<"]
)
def test_an_ill_formed_request_id_is_replaced(installation, given):
    answer = Client().get("/healthz", headers={"X-Request-ID": given})

    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 32


@pytest.mark.parametrize("path", ["/crash/", "/api/v1/crash/", "/nowhere/", "/api/v1/nowhere/", "/t/acme/crash/"])
def test_log_lines_carry_the_id_of_the_request_they_are_about(client, caplog, path):
    caplog.handler.addFilter(RequestIDFilter())

    with caplog.at_level(logging.WARNING):
        client.get(path, headers={"X-Request-ID": "given-by-the-client.2"})

    assert {record.request_id for record in caplog.records} == {"given-by-the-client.2"}


@pytest.mark.parametrize(
    ("path", "tenant"),
    [
        ("/crash/", "-"),
        ("/nowhere/", "-"),
        ("/api/v1/crash/", "acme"),
        ("/api/v1/nowhere/", "acme"),
        ("/t/globex/crash/", "globex"),
        ("/t/nobody/crash/", "-"),
        ("/operator/crash/", "control"),
    ],
)
def test_log_lines_carry_the_tenant_that_they_are_about(client, caplog, path, tenant):
    caplog.handler.addFilter(RequestIDFilter())

    with caplog.at_level(logging.WARNING):
        client.get(path)

    assert {record.tenant for record in caplog.records} == {tenant}


def test_log_lines_of_a_streamed_body_carry_its_tenant(client, caplog):
    caplog.handler.addFilter(RequestIDFilter())
    answer = client.get("/api/v1/logging/")
    before = len(caplog.records)

    with tenant_context("globex"):
        assert list(answer.streaming_content) == [b"a step"]

    assert [record.tenant for record in caplog.records[before:]] == ["acme"]


def test_log_lines_outside_a_request_carry_none(caplog):
    caplog.handler.addFilter(RequestIDFilter())
    logging.getLogger("bulkhead").warning("starting")

    assert (caplog.records[0].request_id, caplog.records[0].tenant) == ("-", "-")


def test_the_settings_write_the_id_on_every_line(settings):
    formatter = logging.Formatter(settings.LOGGING["formatters"]["line"]["format"], style="{")
    record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO"})
    RequestIDFilter().filter(record)

    assert "[- -] hello" in formatter.format(record)
    assert settings.LOGGING["handlers"]["stderr"]["filters"] == ["request_id"]
