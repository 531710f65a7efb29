"""A unit of work that leaves something bound is reported, and the process it ran in is replaced."""

import asyncio
import http.client
import os
import select
import subprocess
import sys
import time

import django_rq
import pytest
from django.test import AsyncClient, Client
from rq.registry import FailedJobRegistry

from config.env import PROJECT
from tenants.context import current_tenant, tenant_context
from tenants.planes import _bound, current
from tests.serving import WebServer, environment_of
from tests.tenants.forge import Forge
from tests.tenants.plane_views import bound_to

SETTINGS = "tests.tenants.hostile_settings"
SERVED = {"bound": "tenant 'acme'"}


def cheat():
    """A job that leaves its worker bound to another tenant."""
    _bound.set(bound_to("globex"))


def note(path):
    with open(path, "a") as file:
        file.write(f"{current_tenant().slug}\n")


@pytest.fixture
def bearer(alice, globex):
    return {"Authorization": f"Bearer {Forge(alice).genuine}", "X-Request-ID": "the-request-that-cheats"}


@pytest.fixture
def client(settings, bearer):
    settings.ROOT_URLCONF = settings.WORKSPACE_URLCONF = "tests.tenants.plane_views"
    return Client(raise_request_exception=False, headers=bearer)


def events(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tenants.sentinel"]


def test_a_view_that_rebinds_its_request_is_reported_with_both_sides(client, retired, caplog):
    client.get("/api/v1/rebind/")

    assert events(caplog) == [
        "In request the-request-that-cheats: tenant 'globex' was bound where tenant 'acme' was expected. "
        "This process is retired.",
        "After request the-request-that-cheats: tenant 'globex' was bound where nothing was expected. "
        "This process is retired.",
    ]
    assert (current(), len(retired)) == (None, 2)
    assert {record.levelname for record in caplog.records if record.name == "tenants.sentinel"} == {"CRITICAL"}
    retired.clear()


@pytest.mark.parametrize("path", ["/leave-bound/", "/t/nobody/leave-bound/", "/rebind/"])
def test_a_view_of_no_plane_that_leaves_one_bound_is_reported(client, retired, caplog, path):
    client.get(path)

    (event,) = events(caplog)
    assert event.startswith("After request the-request-that-cheats: ") and "where nothing was expected" in event
    retired.clear()


@pytest.mark.parametrize("path", ["/operator/rebind/", "/t/acme/rebind/", "/api/v1/rebind/"])
def test_an_asgi_request_that_rebinds_is_reported(client, bearer, retired, caplog, path):
    async def ask():
        await AsyncClient(raise_request_exception=False).get(path, headers=bearer)
        assert current() is None

    asyncio.run(ask())

    assert events(caplog)[0].startswith("In request the-request-that-cheats: tenant 'globex' was bound where ")
    retired.clear()


def test_a_step_that_rebinds_is_reported_and_the_next_is_right(client, retired, caplog):
    answer = client.get("/api/v1/rebind-in-a-step/")

    assert b"".join(answer.streaming_content).decode().split("\n")[1:] == ["cheated", "tenant 'acme'", ""]
    (event,) = events(caplog)
    assert event.startswith("In a step of the body of request the-request-that-cheats: tenant 'globex' was bound")
    assert len(retired) == 1
    retired.clear()


def test_ordinary_requests_are_not_reported(client, retired, caplog):
    for path in ("/where/", "/api/v1/where/", "/t/acme/where/", "/operator/where/", "/api/v1/crash/"):
        client.get(path)

    assert (events(caplog), retired) == ([], [])


def test_what_retires_a_process_is_a_setting(client, settings, caplog):
    told = []
    settings.TENANT_RETIRE = f"{__name__}.told_instead"
    globals()["told_instead"] = lambda: told.append("told")

    client.get("/leave-bound/")

    assert told == ["told"]


def test_a_process_is_asked_to_end_once():
    code = """
import signal, os
from tenants.sentinel import end_process
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(os.getpid()))
end_process(), end_process()
if not os.fork():
    end_process(), end_process()
    os._exit(10 + len(heard))
print(heard == [os.getpid()], os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=30)

    assert done.stdout == "True 12\n", done.stderr


class HostileServer(WebServer):
    def __init__(self, installation):
        super().__init__(installation)
        self.environment["DJANGO_SETTINGS_MODULE"] = SETTINGS

    def text(self, path, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def logged(self):
        self.log.seek(0)
        return self.log.read()


EVENTS = {
    "/api/v1/rebind/": "In request the-request-that-cheats: tenant 'globex' was bound where tenant 'acme' was",
    "/rebind/": "After request the-request-that-cheats: tenant 'globex' was bound where nothing was expected.",
    "/api/v1/rebind-in-a-step/": "In a step of the body of request the-request-that-cheats: tenant 'globex' was bound",
}


def test_gunicorn_replaces_a_worker_whose_view_left_something_bound(installation, bearer):
    token = bearer["Authorization"].removeprefix("Bearer ")
    with HostileServer(installation) as server:

        def ask_until(is_enough, seconds=60):
            pids, until = set(), time.monotonic() + seconds
            while not is_enough(pids) and time.monotonic() < until:
                status, body = server.ask("GET", "/api/v1/pid/", token=token)
                pids.add(body.pop("pid"))
                assert (status, body) == (200, SERVED)
            return pids

        for path, event in EVENTS.items():
            before = ask_until(lambda pids: len(pids) == 2)
            ends = {os.pidfd_open(pid): pid for pid in before}
            server.text(path, bearer)
            ended = {ends[end] for end in select.select(list(ends), [], [], 30)[0]}
            after = ask_until(lambda pids: pids - before)  # noqa: B023  used at once
            for end in ends:
                os.close(end)

            assert len(ended) == 1 and after - before and not after & ended
            assert event in server.logged()
        assert server.logged().count("CRITICAL tenants.sentinel") == 4  # the first is seen in the request and after it


@pytest.fixture
def jobs(installation, settings, acme, globex, tmp_path):
    settings.BULKHEAD_JOB_FUNCTIONS = {f"{__name__}.cheat", f"{__name__}.note"}
    notes = tmp_path / "notes"
    with tenant_context("acme"):
        cheating = django_rq.enqueue(cheat)
        django_rq.enqueue(note, str(notes))
    return cheating, notes


def work(installation, *arguments):
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=60,
        env=environment_of(installation) | {"DJANGO_SETTINGS_MODULE": SETTINGS},
    )  # fmt: skip


def test_a_job_that_left_something_bound_ends_with_its_process_and_the_next_is_served(installation, jobs):
    cheating, notes = jobs

    done = work(installation, "worker", "--burst")

    event = (
        f"In job {cheating.id}: tenant 'globex' was bound where tenant 'acme' was expected. This process is retired."
    )
    assert event in done.stderr
    assert notes.read_text() == "acme\n"
    assert done.stderr.count("CRITICAL tenants.sentinel") == 1  # not in the process of the next job
    failed = FailedJobRegistry("default", connection=django_rq.get_connection("default"))
    assert failed.get_job_ids(cleanup=False) == [cheating.id]


def test_a_worker_that_does_not_fork_ends_after_the_job_and_the_next_worker_serves(installation, jobs):
    cheating, notes = jobs
    arguments = ["rqworker", "--burst", "--worker-class", "rq.SimpleWorker"]

    first = work(installation, *arguments)
    assert f"In job {cheating.id}: tenant 'globex' was bound" in first.stderr and not notes.exists()
    second = work(installation, *arguments)

    assert notes.read_text() == "acme\n" and "CRITICAL" not in second.stderr
