"""One tenant's trouble, whatever it is, at a real web server: it alone is told so, and nobody else notices."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import MySQLdb
import pytest
from django.core.management import call_command

from tenants.connections import close_tenant_connections
from tests.faults.client import Client
from tests.faults.service import EIGHT_THREADS, heard_by
from tests.sick import TROUBLES, connect_as

TO_ONE_MARIADB = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
REQUESTS = 300


def client_of(service, slug, username="ada"):
    return Client(slug, username, service.processes.port, 1)


def ask_beside(service, sick_one):
    """What two bystanders hear meanwhile, one request after the other, and what the sick one hears."""
    over, heard = threading.Event(), []

    def bother():
        while not over.wait(0.1):
            heard.append(heard_by(sick_one))

    def stand_by(slug):
        return [heard_by(service.clients[slug]) for _ in range(REQUESTS)]

    with ThreadPoolExecutor(4) as pool:
        bothering = [pool.submit(bother) for _ in range(2)]  # a quarter of the threads
        try:
            bystanders = [answer for answers in pool.map(stand_by, ("acme", "globex")) for answer in answers]
            while len(heard) < 40 and not any(each.done() for each in bothering):
                time.sleep(0.05)
        finally:
            over.set()
        for each in bothering:
            each.result()
    return bystanders, heard


def p99(answers):
    return sorted(seconds for *_, seconds in answers)[int(0.99 * len(answers))]


@pytest.mark.long
@TO_ONE_MARIADB
def test_a_stopped_server_is_felt_by_its_tenant_alone(service, sick, fault):
    measured = fault(
        "server stopped, connection open",
        "its tenant 503 within 2.5 s, 50 ms once known; others 0 errors, p99 at most 1.25 times",
    )
    sick.add("initech")
    service.start(**EIGHT_THREADS)
    ada = client_of(service, "initech")
    assert {heard_by(client)[0] for client in (ada, *service.clients.values()) for _ in range(20)} == {200}
    well, heard = ask_beside(service, ada)
    assert {status for status, *_ in (*well, *heard)} == {200}

    with sick.stopped():
        meanwhile, heard = ask_beside(service, ada)
    took = service.seconds_until(lambda: [heard_by(ada)[0] for _ in range(4)] == [200] * 4)

    assert {status for status, *_ in meanwhile} == {200}
    assert {(status, code) for status, code, *_ in heard} == {(503, "unavailable")}
    waited = [each for each in heard if each[3] > 1]
    known_at = max(began_at + seconds for *_, began_at, seconds in waited)
    later = [each for each in heard if each[2] > known_at]
    assert later
    measured(
        f"{len(heard)} of {len(heard)} 503: after {max(seconds for *_, seconds in waited):.2f} s, "
        f"then {1000 * p99(later):.0f} ms (p99), 200 again after {took:.1f} s; others {len(meanwhile)} of "
        f"{len(meanwhile)} 200, p99 {1000 * p99(meanwhile):.0f} ms, {1000 * p99(well):.0f} ms without: "
        f"{p99(meanwhile) / p99(well):.2f} times"
    )


@pytest.mark.long
@TO_ONE_MARIADB
def test_who_has_as_many_connections_as_they_may_is_refused_alone(service, acme, fault):
    measured = fault("too many connections of one tenant", "it alone 503; bystanders nothing")
    service.start(**EIGHT_THREADS)
    assert heard_by(service.clients["globex"])[0] == 200
    close_tenant_connections()
    held = []
    with pytest.raises(MySQLdb.OperationalError, match="max_user_connections"):
        while len(held) < 200:
            held.append(connect_as(acme))

    refused = [heard_by(service.clients["acme"]) for _ in range(40)]
    others = [heard_by(service.clients["globex"]) for _ in range(40)]
    for each in held:
        each.close()
    took = service.seconds_until(lambda: heard_by(service.clients["acme"])[0] == 200)

    assert {(status, code) for status, code, *_ in refused} == {(503, "unavailable")}
    assert {status for status, *_ in others} == {200}
    assert "max_user_connections" in service.processes.log("web").read_text()
    measured(
        f"with {len(held)} connections held 40 of 40 503 (p99 {1000 * p99(refused):.0f} ms), others 40 of 40 200; "
        f"200 again {took:.1f} s after"
    )


@pytest.mark.long
@TO_ONE_MARIADB
def test_one_tenants_trouble_is_its_own_and_operators_read_why(service, sick, fault, capsys):
    measured = fault(
        "one tenant's database dropped, its password another, at its cap", "it alone 503; operators see why"
    )
    sick_ones = {f"sick-{number}": trouble for number, trouble in enumerate(TROUBLES)}
    tenants = {slug: sick.add(slug)[0] for slug in (*sick_ones, "neighbour")}
    service.start(**EIGHT_THREADS)
    clients = {slug: client_of(service, slug) for slug in tenants} | service.clients
    close_tenant_connections()
    held = [TROUBLES[trouble][0](sick, tenants[slug]) for slug, trouble in sick_ones.items()]

    heard = {slug: [heard_by(client) for _ in range(20)] for slug, client in clients.items()}
    capsys.readouterr()
    call_command("list_tenants", "--json", "--check")
    found = {row["slug"]: row["database"] for row in json.loads(capsys.readouterr().out)}
    held[-1].close()

    log = service.processes.log("web").read_text()
    for slug, trouble in sick_ones.items():
        assert {(status, code) for status, code, *_ in heard.pop(slug)} == {(503, "unavailable")}, trouble
        assert TROUBLES[trouble][1] in found.pop(slug) and TROUBLES[trouble][1] in log
    assert {status for answers in heard.values() for status, *_ in answers} == {200}
    assert set(found.values()) == {"ok"}
    measured(
        f"20 of 20 503 of each, {20 * len(heard)} of {20 * len(heard)} others 200 (one on the same server); "
        "log and list_tenants --check name each"
    )
