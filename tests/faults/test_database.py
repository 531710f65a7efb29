"""One database server: restarted, its connections cut, made read-only."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import MySQLdb
import pytest
from django.db import OperationalError, connection, transaction

from scans import leases
from scans.exceptions import TasksHeld
from scans.leases import take_lease
from scans.models import Scan, ScanCounter, ScanEvent, ScanRun, TaskQueue
from scans.recording import start_run
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.faults.processes import start_service_again, wait_until
from tests.invariants.work import add, names
from tests.scans.test_dispatch import ask

pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
REQUESTS = 40
WAITING = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE%scans_scancounter%'"


@pytest.fixture
def admin(installation, mariadb):
    """A connection of an administrator's that may be asked for anew."""

    def connect():
        return MySQLdb.connect(
            host=mariadb.host, port=mariadb.port, user=mariadb.user, passwd=mariadb.password, autocommit=True
        )

    def sql(statement):
        connection = connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    yield sql
    installation.admin = connect()


@pytest.mark.long
def test_a_restart_between_requests_is_not_seen(service, fault, admin, mariadb):
    measured = fault("database server restarted between requests", "invisible (health checks)")
    service.start(dispatchers=1, workers=1)
    client = service.clients["acme"]
    before = [client.ask("GET", "/api/v1/scans/")[0] for _ in range(REQUESTS)]
    close_tenant_connections()
    os.killpg(mariadb.process.pid, signal.SIGTERM)
    mariadb.process.wait(30)
    start_service_again(mariadb, service.processes.log("mariadb"))

    after = [client.ask("GET", "/api/v1/scans/")[0] for _ in range(REQUESTS)]
    service.installation.forget()
    service.ask()
    service.wait_for_end()

    assert before == after == [200] * REQUESTS
    service.assert_all_once()
    measured(f"{REQUESTS} of {REQUESTS} reads 200 and a scan done after it" + service.ended_too())


@pytest.mark.long
def test_a_write_whose_connection_is_killed_is_503_and_not_half_there(service, fault, admin):
    measured = fault(
        "connection killed in the middle of a write", "503, nothing half-committed; done once when repeated"
    )
    service.start(dispatchers=1, workers=1)
    client, answers = service.clients["acme"], []
    key = {"Idempotency-Key": "order-0"}
    ask = threading.Thread(target=lambda: answers.append(client.ask("POST", "/api/v1/scans/", client.body, key)))
    with tenant_context("acme"):
        with transaction.atomic():
            ScanCounter.objects.select_for_update().get(pk=1)
            ask.start()
            waiting = wait_until(lambda: [row[0] for row in admin(WAITING)], 20)
            assert waiting
            admin(f"KILL {waiting[0]}")
            ask.join(30)
        assert (Scan.objects.count(), TaskQueue.objects.count()) == (0, 0)
    [(status, body)] = answers
    assert (status, body["code"]) == (503, "unavailable")

    service.ask()
    service.wait_for_end()
    service.assert_all_once()
    measured("503 unavailable, 0 rows; the same key again: 202, one scan")


@pytest.mark.parametrize("end", ["a statement", "the commit"])
def test_a_transaction_in_which_nothing_happened_for_too_long_is_undone(acme, admin, end):
    with tenant_context("acme"):
        with pytest.raises(OperationalError), transaction.atomic():
            add("row 1")
            with connection.cursor() as cursor:
                cursor.execute("SET idle_transaction_timeout = 1")
                cursor.execute("SELECT CONNECTION_ID()")
                mine = f"SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {cursor.fetchone()[0]}"
            assert admin(mine) and wait_until(lambda: not admin(mine), 20)
            if end == "a statement":
                add("row 2")
        add("row 3")
    assert names("acme") == {"row 3"}


@pytest.fixture
def lease(acme, alice):
    ask("acme", alice)
    with tenant_context("acme"):
        yield take_lease(TaskQueue.objects.get().message_id)


@pytest.fixture
def other(acme, installation):
    """Somebody else's transaction in acme's database."""
    server = installation.server
    connection = MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, passwd=server.password, database=acme.alias
    )
    yield connection
    connection.close()


# With what each leaves: runs, whether there is progress, events.
WRITES = {
    "a row": (lambda lease: lease.record(lambda: start_run(lease, "ports")), (1, False, 0)),
    "progress": (lambda lease: lease.report(50, "half"), (0, True, 0)),
    "the end": (lambda lease: lease.finish("succeeded"), (0, True, 1)),
    "a return": (lambda lease: lease.give_back("blocked", "target_inactive", 60), (0, False, 1)),
}


@pytest.fixture
def pauses(other, monkeypatch):
    """Between two tries; the other ends its transaction in each."""
    found = []
    monkeypatch.setattr(leases, "pause", lambda: found.append(other.rollback()))
    return found


def lock(other):
    """What everybody needs, and nobody here waits for it for long."""
    with connection.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
    other.query("SELECT * FROM scans_taskqueue, scans_scancounter FOR UPDATE")
    other.store_result()


@pytest.mark.parametrize(("write", "left"), WRITES.values(), ids=WRITES)
def test_a_workers_write_that_waits_for_a_lock_in_vain_is_done_again(lease, other, pauses, write, left):
    events = ScanEvent.objects.count()
    lock(other)

    write(lease)

    assert pauses == [None]
    assert (ScanRun.objects.count(), Scan.objects.get().progress > 0, ScanEvent.objects.count() - events) == left


def test_so_is_a_lease_and_a_dispatchers_claim_is_not_as_other_tenants_would_wait_for_it(acme, alice, other, pauses):
    ask("acme", alice)
    with tenant_context("acme"):
        lock(other)
        with pytest.raises(TasksHeld):
            leases.claim_next()
        assert pauses == []

        lease = take_lease(TaskQueue.objects.get().message_id)

        assert pauses == [None] and (lease.fence, TaskQueue.objects.get().attempts) == (1, 1)


@contextmanager
def meeting(other, first: str, second: str):
    """The ``other`` has locked the first table, and wants the second once the event is set: then we want the first."""
    has_locked, is_to_go_on = threading.Event(), threading.Event()

    def meet():
        other.query("UPDATE auth_permission SET name = CONCAT(name, '.')")  # the server ends who has written less
        other.query(f"SELECT * FROM {first} FOR UPDATE")
        other.store_result()
        has_locked.set()
        assert is_to_go_on.wait(30)
        other.query(f"SELECT * FROM {second} FOR UPDATE")
        other.store_result()
        other.rollback()

    with ThreadPoolExecutor(1) as pool:
        met = pool.submit(meet)
        assert has_locked.wait(30)
        yield is_to_go_on
        met.result()


def calls(monkeypatch, name: str, event: threading.Event) -> list:
    """Of this function of the leases; each sets the event."""
    found, function = [], getattr(leases, name)

    def called(*args, **options):
        found.append(event.set())
        return function(*args, **options)

    monkeypatch.setattr(leases, name, called)
    return found


def test_a_workers_write_that_met_another_in_a_deadlock_is_done_again(lease, other):
    tries = []
    with meeting(other, "scans_scan", "scans_taskqueue") as has_begun:

        def write():
            tries.append(has_begun.set())
            return Scan.objects.filter(pk=lease.scan.pk).update(message="again")

        assert lease.record(write) == 1

    assert len(tries) == 2 and Scan.objects.get().message == "again"


def test_so_is_a_dispatchers_claim(acme, alice, other, monkeypatch):
    ask("acme", alice)
    with tenant_context("acme"):
        with meeting(other, "scans_taskqueue", "scans_scancounter") as has_begun:
            tries = calls(monkeypatch, "has_room_to_send", has_begun)
            task = leases.claim_next()

        assert len(tries) == 2 and task == TaskQueue.objects.get(dispatches=1)


def test_so_is_what_puts_a_scan_to_rest(lease, other, monkeypatch):
    TaskQueue.objects.update(lease_until=None, attempts=leases.ATTEMPTS)
    with meeting(other, "scans_scan", "scans_taskqueue") as has_begun:
        tries = calls(monkeypatch, "move", has_begun)
        assert leases.put_to_rest(TaskQueue.objects.get(), Scan.objects.get())

    assert len(tries) == 2 and Scan.objects.get().state == "quarantined"


@pytest.mark.long
def test_a_read_only_server_answers_reads_and_refuses_writes(service, fault, admin):
    measured = fault("server read-only", "reads 200, writes 503 read_only; jobs go on afterwards")
    service.start(dispatchers=1, workers=1)
    client = service.clients["acme"]
    admin("SET GLOBAL read_only = 1")
    try:
        reads = {client.ask("GET", "/api/v1/scans/")[0] for _ in range(REQUESTS)}
        writes = [client.ask("POST", "/api/v1/scans/", client.body, {"Idempotency-Key": "order-0"}) for _ in range(5)]
        time.sleep(3)
    finally:
        admin("SET GLOBAL read_only = 0")
    with tenant_context("acme"):
        assert not Scan.objects.exists()
    service.ask("acme", 2)
    took = service.wait_for_end()

    assert reads == {200} and {(status, body["code"]) for status, body in writes} == {(503, "read_only")}
    service.assert_all_once()
    measured(f"{REQUESTS} reads 200, 5 writes 503 read_only; jobs ended {took:.1f} s after" + service.ended_too())
