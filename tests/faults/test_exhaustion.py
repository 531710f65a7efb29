"""What runs out, and what many do at once: it is an error or waits, nothing is lost, and it ends by itself."""

import http.client
import os
import resource
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
from django.db import OperationalError, connection, transaction

from scans.models import ScanCounter, Target
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.faults.client import Client
from tests.faults.many import add_copies
from tests.faults.processes import wait_until
from tests.faults.service import EIGHT_THREADS, ME, heard_by
from tests.sick import Sick

TARGETS = "/api/v1/targets/"
TO_ONE_MARIADB = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
TO_BOTH = pytest.mark.parametrize("_engine", ["sqlite", "mysql"], ids=["SQLite", "MariaDB"], indirect=True)
THREADS, TIMES = 8, 1000


@pytest.fixture
def on_full_disk(service, disk, tmp_path):
    """A tenant whose disk can be made full, with a member: its file's and all others', or a second server's."""
    if service.installation.engine == "sqlite":
        service.start(**EIGHT_THREADS, **disk.environment)
        yield "acme", "alice"
        return
    with disk.mariadb(tmp_path) as server, Sick(server) as sick:
        sick.add("initech")
        service.start(**EIGHT_THREADS)
        yield "initech", "ada"


def target(number):
    return {"name": f"{number} " + 90 * "x", "host": "shop.example", "ports": list(range(1, 90))}


def write_until(client, expected):
    """How many were written, until the answer is the one that is expected; how long that took."""
    for number in range(2000):
        began_at = time.monotonic()
        status, body = client.ask("POST", TARGETS, target(number))
        if status == expected:
            return number, body, time.monotonic() - began_at
        assert status == 201, body
    raise AssertionError(f"never {expected}")


@pytest.mark.long
@TO_BOTH
def test_a_full_disk_is_an_error_that_ends_by_itself(service, on_full_disk, disk, fault):
    slug, username = on_full_disk
    measured = fault(f"disk full ({service.installation.engine})", "error, recovers by itself, integrity intact")
    client = Client(slug, username, service.processes.port, 1)
    assert client.ask("POST", TARGETS, target("first"))[0] == 201

    with disk.full():
        written, body, seconds = write_until(client, 503)
        assert body["code"] == "unavailable"
        again = [client.ask("POST", TARGETS, target("again"))[0] for _ in range(10)]
        reads = {client.ask("GET", path)[0] for path in (ME, TARGETS, "/api/v1/scans/")}
        others = {heard_by(service.clients["globex"])[0] for _ in range(20)}
    took = service.seconds_until(lambda: client.ask("POST", TARGETS, target("after"))[0] == 201)

    assert set(again) <= {201, 503} and reads == {200} and others == {200}
    close_tenant_connections()
    with tenant_context(slug):
        assert Target.objects.filter(name__contains="xxx").count() == 1 + written + again.count(201) + 1
        assert integrity_of(connection) == "ok"
    measured(
        f"{written} more written, then 503 after {1000 * seconds:.0f} ms; reads and others 200; written again "
        f"{took:.1f} s after there was room; what was accepted is there, and nothing else; integrity ok"
    )


def integrity_of(connection):
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            path = connection.settings_dict["NAME"]
            with closing(sqlite3.connect(path)) as database:
                return database.execute("PRAGMA integrity_check").fetchone()[0]
        cursor.execute("CHECK TABLE scans_target, audit_auditevent EXTENDED")
        return ", ".join({row[3].lower() for row in cursor.fetchall()})


def hear(client):
    """What a program hears of one request, if anything."""
    try:
        return heard_by(client)[0]
    except (OSError, http.client.HTTPException):
        return "nothing"


@contextmanager
def few_files(pids, more):
    """So many more files than they have open may these processes open."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in limits.items():
        highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


@pytest.mark.long
@TO_ONE_MARIADB
def test_a_web_process_without_file_descriptors_serves_again_once_it_has_some(service, fault):
    measured = fault("file descriptors used up in the web processes", "open connections bounded; recovers by itself")
    service.start(**EIGHT_THREADS)
    clients = list(service.clients.values())
    assert {heard_by(client)[0] for client in clients * 4} == {200}
    pids = service.processes.children_of("web")

    with few_files(pids, 4), ThreadPoolExecutor(16) as pool:
        heard = Counter(pool.map(hear, clients * 100))
    took = service.seconds_until(lambda: {hear(client) for client in clients * 4} == {200})

    assert set(heard) <= {200, 503, "nothing"} and heard[200] < heard.total()
    started_anew = len(set(service.processes.children_of("web")) - set(pids))
    measured(f"{dict(heard)} of 200 requests; 200 again after {took:.1f} s, {started_anew} of 2 processes started anew")


def test_open_connections_are_few_however_many_tenants(installation, acme, fault, settings):
    measured = fault(f"12 tenants in one thread ({installation.engine})", "open connections bounded")
    tenants = add_copies(acme, 12)
    for tenant in tenants:
        with tenant_context(tenant):
            assert not ScanCounter.objects.filter(number__lt=0).exists()

    def opened():
        if installation.engine == "mysql":
            like = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER LIKE 'r1%'"
            return installation._sql(like)[0][0]
        names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return len({name for name in names if "/tenants/" in name and name.endswith(".sqlite3")})

    # A server hears of a connection's end a moment after it.
    wait_until(lambda: opened() <= settings.BULKHEAD_CONNECTIONS_PER_THREAD, seconds=20)
    assert opened() == settings.BULKHEAD_CONNECTIONS_PER_THREAD
    measured(f"{opened()} open")


@pytest.mark.long
@TO_BOTH
def test_eight_threads_count_a_thousand_times_each(installation, acme, fault):
    measured = fault(f"8 threads x 1,000 increments ({installation.engine})", "8,000")

    def count(_):
        found, tries = [], 0
        with tenant_context("acme"):
            while len(found) < TIMES and tries < 2 * TIMES:
                tries += 1
                with suppress(OperationalError):  # SQLite's writers wait five seconds for their turn, and may miss it
                    found.append(next_number())
        close_tenant_connections()
        return found, tries

    @transaction.atomic
    def next_number():
        return ScanCounter.next()

    began_at = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        counted = list(pool.map(count, range(THREADS)))
    seconds = time.monotonic() - began_at
    numbers = [number for found, _ in counted for number in found]
    again = sum(tries for _, tries in counted) - len(numbers)

    assert sorted(numbers) == list(range(1, THREADS * TIMES + 1))
    with tenant_context("acme"):
        assert ScanCounter.objects.get().number == THREADS * TIMES
    measured(f"{len(set(numbers)):,}, each number once, in {seconds:.0f} s; {again} asked again")
