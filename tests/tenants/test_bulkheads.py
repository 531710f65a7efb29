"""A tenant holds a quarter of a web process at most, and gives back what it held however a request ends."""

import gc
import os
import signal
import threading
from contextlib import ExitStack

import pytest
from django.contrib.auth import get_user_model
from django.http import StreamingHttpResponse
from django.test import Client

from tenants import bulkheads
from tenants.bulkheads import Place
from tenants.context import tenant_context
from tenants.embedded import MariaDB
from tenants.exceptions import TooBusyError
from tenants.services import add_database_server, create_tenant
from tests.installation import PASSWORD
from tests.serving import WebServer

ME = "/api/v1/me/"
CREDENTIALS = {"tenant": "acme", "username": "alice", "password": PASSWORD}


@pytest.fixture
def full(acme, settings):
    """Acme has all the places that it may have in this process, which are two of eight."""
    settings.BULKHEAD_THREADS = 8
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(Place(acme.pk))
        yield held
    assert bulkheads._held == {}


DOORS = {
    "a token": lambda alice_api: alice_api.get(ME),
    "a log-in": lambda alice_api: Client().post("/api/v1/token/", CREDENTIALS, "application/json"),
    "a workspace": lambda alice_api: Client().get("/t/acme/login/"),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
def test_what_is_beyond_a_tenants_quarter_is_refused_at_every_door_and_nobody_elses_is(
    full, alice_api, mallory_api, stranger_api, door
):
    refused = door(alice_api)

    assert (refused.status_code, refused["Retry-After"]) == (503, "5")
    assert mallory_api.get(ME).status_code == 200
    assert Client().get("/t/globex/login/").status_code == 200
    assert stranger_api.get("/healthz").status_code == 200
    full.close()
    assert door(alice_api).status_code == 200


def test_who_refreshes_or_logs_out_holds_a_place_too(full, acme, alice):
    full.close()
    pair = Client().post("/api/v1/token/", CREDENTIALS, "application/json").json()
    with Place(acme.pk), Place(acme.pk):
        for path in ("/api/v1/token/refresh/", "/api/v1/token/logout/"):
            answer = Client().post(path, {"refresh": pair["refresh"]}, "application/json")
            assert (answer.status_code, answer.json()["code"]) == (503, "too_busy"), path
    assert Client().post("/api/v1/token/refresh/", {"refresh": pair["refresh"]}, "application/json").status_code == 200


def test_an_error_gives_the_place_back(acme):
    with pytest.raises(ZeroDivisionError), Place(acme.pk):
        raise ZeroDivisionError
    assert bulkheads._held == {}


def test_a_streamed_body_holds_its_place_until_it_is_closed_or_dropped(acme, settings):
    settings.BULKHEAD_THREADS = 4

    def begin():
        with Place(acme.pk) as place:
            return place.keep_for_body(StreamingHttpResponse(iter(["a", "b"])))

    def is_free():
        try:
            with Place(acme.pk):
                return True
        except TooBusyError:
            return False

    body = begin()
    assert not is_free()
    body.close()
    body.close()
    assert is_free()
    body = begin()
    assert not is_free()
    del body
    gc.collect()
    assert is_free()
    assert bulkheads._held == {}


def test_a_forked_child_holds_nothing(acme):
    with Place(acme.pk):
        child = os.fork()
        if child == 0:
            os._exit(0 if bulkheads._held == {} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bulkheads._held == {}


def test_a_tenant_whose_server_hangs_leaves_a_real_server_its_threads(installation, acme, tmp_path):
    """
    Forty requests at once, of a tenant whose database server has stopped, to a gunicorn of two times eight threads:
    before the first of them has waited to its end, others have been served again and again.
    """
    with MariaDB(tmp_path) as sick, WebServer(installation, BULKHEAD_THREADS="8") as web:
        add_database_server(
            name="ward", host=sick.host, port=sick.port, admin_user=sick.user, admin_password=sick.password
        )
        create_tenant(slug="initech", server="ward")
        with tenant_context("initech"):
            get_user_model().objects.create_user("ada", PASSWORD, role="owner")
        ada = web.log_in("initech", "ada", PASSWORD)[1]["access"]
        alice = web.log_in("acme", "alice", PASSWORD)[1]["access"]
        answers, first_end = [], threading.Event()

        def ask():
            status, body = web.ask("GET", ME, token=ada)
            answers.append((status, body["code"]))
            if body["code"] == "unavailable":
                first_end.set()

        os.kill(sick.process.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, sick.process.pid, os.WSTOPPED)
            threads = [threading.Thread(target=ask) for _ in range(40)]
            for thread in threads:
                thread.start()
            others = []
            while not first_end.is_set() and len(others) < 10_000:
                others.append(web.ask("GET", ME, token=alice)[0])
            for thread in threads:
                thread.join(60)
        finally:
            os.kill(sick.process.pid, signal.SIGCONT)

    assert set(others) == {200} and len(others) >= 10  # 392 on a quiet machine
    assert set(answers) == {(503, "unavailable"), (503, "too_busy")}
    assert answers.count((503, "unavailable")) < len(answers)
