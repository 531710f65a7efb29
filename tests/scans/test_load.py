"""What dispatchers note of the tenants' scans, for operators, and what that costs."""

import logging
import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from scans.dispatch import run_dispatcher, run_round, sweep
from scans.leases import take_lease
from scans.load import Loads
from scans.models import Scan, ScanEvent, Target, TaskQueue
from scans.services import cancel_scan, retry_scan
from scans.wakeup import wake_dispatcher
from tenants import load
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, tenant_context
from tenants.load import WORST, read_load
from tenants.models import Tenant
from tenants.notes import Dispatcher, TenantLoad
from tenants.services import resume_tenant, suspend_tenant
from tests.scans.scanning import start, wait_until
from tests.scans.test_dispatch import ask, make_target, profile

NONE = dict.fromkeys(TenantLoad.COUNTS, 0)


@pytest.fixture(autouse=True)
def _long_leases(settings):
    settings.BULKHEAD_LEASE_SECONDS = 600


def look():
    """A dispatcher's, at all; what it sends is lost on the way."""
    sweep(lambda task: None)


def noted(slug):
    with control_plane():
        row = TenantLoad.objects.filter(tenant__slug=slug).first()
    return row and {name: getattr(row, name) for name in TenantLoad.COUNTS}


def total():
    with control_plane():
        return read_load()


def lease(scan):
    with tenant_context("acme"):
        return take_lease(TaskQueue.objects.get(task_id=scan.number).message_id)


def end(scan):
    with tenant_context("acme"):
        take_lease(TaskQueue.objects.get(task_id=scan.number).message_id).finish("succeeded")


def ask_without_permission(user, target):
    scan = ask("acme", user)
    with tenant_context("acme"):
        Scan.objects.filter(pk=scan.pk).update(target=target)


def test_what_waits_runs_and_does_not_is_told_apart(alice, globex):
    with tenant_context("acme"):
        nobodys = Target.objects.create(name="nobody's", host="127.0.0.2", ports=[1], created_by=alice)
        make_target(alice)
    finished = ask("acme", alice)
    look()
    end(finished)
    poisonous = ask("acme", alice)
    look()
    with tenant_context("acme"):
        past = timezone.now() - timedelta(seconds=1)
        TaskQueue.objects.filter(task_id=poisonous.number).update(attempts=3, available_at=past)
    look()
    running = ask("acme", alice)
    look()
    lease(running)
    ask_without_permission(alice, nobodys)
    look()
    last = ask("acme", alice, 3)
    look()

    assert noted("acme") == NONE | {"queued": 2, "dispatched": 1, "blocked": 1, "running": 1, "quarantined": 1}
    assert noted("globex") is None
    with tenant_context("acme"):
        since = ScanEvent.objects.get(scan=running, state="running").at
        oldest = Scan.objects.get(number=last.number - 2).created_at
    with control_plane():
        row = TenantLoad.objects.get()
    assert (row.leased_since, row.waiting_since) == (since, oldest)
    assert total().counts == noted("acme")


def test_what_has_ended_is_noted_no_more(alice):
    scan = ask("acme", alice)
    look()
    assert noted("acme") == NONE | {"dispatched": 1}

    end(scan)
    look()

    assert noted("acme") == NONE
    assert (total().wait_seconds, total().lease_seconds, total().longest_waits, total().deepest) == (0, 0, [], [])


def test_a_scan_that_was_quarantined_counts_until_it_is_retried(alice):
    scan = ask("acme", alice)
    look()
    with tenant_context("acme"):
        past = timezone.now() - timedelta(seconds=1)
        TaskQueue.objects.update(attempts=3, available_at=past)
    look()
    assert noted("acme") == NONE | {"quarantined": 1}

    with tenant_context("acme"):
        retry_scan(scan=Scan.objects.get(pk=scan.pk), user=alice)
    look()

    assert noted("acme") == NONE | {"dispatched": 1}


def test_a_lease_that_has_run_out_is_overdue_until_somebody_takes_it(alice):
    scan = ask("acme", alice)
    look()
    lease(scan)
    look()
    assert noted("acme") == NONE | {"running": 1}
    past = timezone.now() - timedelta(seconds=1)
    with tenant_context("acme"):
        TaskQueue.objects.update(lease_until=past, available_at=past)
        before = ScanEvent.objects.filter(state="running").latest("sequence").at

    look()
    assert noted("acme") == NONE | {"running": 1, "overdue": 1}

    lease(scan)
    look()
    assert noted("acme") == NONE | {"running": 1}
    with control_plane():
        assert TenantLoad.objects.get().leased_since > before


def test_waits_go_on_between_two_looks(alice):
    ask("acme", alice)
    look()
    with control_plane():
        TenantLoad.objects.update(waiting_since=timezone.now() - timedelta(hours=1))

    assert 3600 <= total().wait_seconds < 7200
    assert [each.slug for each in total().longest_waits] == ["acme"]
    assert 3600 <= total().longest_waits[0].wait_seconds < 7200


def test_what_another_dispatcher_has_measured_later_stands(alice, acme):
    """Each notes what it has measured a moment after."""
    scan = ask("acme", alice)
    look()
    with tenant_context("acme"):
        lease = take_lease(TaskQueue.objects.get().message_id)
    first, second = Loads(), Loads()
    run_round([acme.id], loads=first)
    with tenant_context("acme"):
        lease.finish("succeeded")
    run_round([acme.id], loads=second)

    second.note()
    first.note()

    assert noted("acme") == NONE
    assert scan.number == 1


def test_a_later_note_stands_where_there_was_none_before(alice, acme):
    ask("acme", alice)
    first, second = Loads(), Loads()
    run_round([acme.id], lambda task: None)
    run_round([acme.id], loads=first)
    with tenant_context("acme"):
        cancel_scan(scan=Scan.objects.get(), user=alice)
    run_round([acme.id], loads=second)

    second.note()
    first.note()

    assert noted("acme") == NONE


def test_what_is_no_longer_so_when_it_is_noted_is_not_noted(alice, acme):
    ask("acme", alice)
    run_round([acme.id], lambda task: None)
    loads = Loads()
    run_round([acme.id], loads=loads, unasked=[acme.id])
    with tenant_context("acme"):
        cancel_scan(scan=Scan.objects.get(), user=alice)
    run_round([acme.id], loads=loads, unasked=[acme.id])

    loads.note()

    assert noted("acme") == NONE


def test_of_who_has_asked_a_dispatcher_notes_that_there_is_no_work_and_of_others_nothing(acme, globex):
    """Another may be about to note what it has measured before."""
    wake_dispatcher(acme.id)
    ends_at = time.monotonic() + 30

    run_dispatcher(lambda: noted("acme") is not None or time.monotonic() > ends_at)

    assert (noted("acme"), noted("globex")) == (NONE, None)


def test_dispatchers_at_once_note_what_is_there(alice, mallory):
    ask("acme", alice, 3)
    ask("globex", mallory, 2)
    barrier = threading.Barrier(3)

    def work():
        barrier.wait()
        try:
            look()
        finally:
            close_tenant_connections()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look()

    assert noted("acme") == NONE | {"queued": 2, "dispatched": 1}
    assert noted("globex") == NONE | {"queued": 1, "dispatched": 1}


def test_what_cannot_be_noted_stops_no_scan_and_is_noted_later(alice, acme, monkeypatch, caplog):
    ask("acme", alice)
    loads, sent = Loads(), []

    def fail(measured):
        raise OperationalError("control is away")

    with monkeypatch.context() as broken:
        broken.setattr(load, "_note", fail)
        while run_round([acme.id], sent.append, loads=loads):
            pass
        with caplog.at_level(logging.WARNING):
            loads.note()
    assert len(sent) == 1 and noted("acme") is None
    assert "control is away" in caplog.text

    loads.note()

    assert noted("acme") == NONE | {"dispatched": 1}


def test_only_active_tenants_count(alice):
    ask("acme", alice, 2)
    look()
    assert total().counts == NONE | {"queued": 1, "dispatched": 1}

    suspend_tenant(slug="acme")
    assert (total().counts, total().longest_waits, total().deepest) == (NONE, [], [])

    resume_tenant(slug="acme")
    assert total().counts == NONE | {"queued": 1, "dispatched": 1}


class Asked:
    """Each statement with the database that it goes to."""

    def __init__(self, monkeypatch):
        self.statements = []
        execute = CursorWrapper.execute

        def recording(cursor, sql, params=None):
            self.statements.append((cursor.db.alias, sql))
            return execute(cursor, sql, params)

        monkeypatch.setattr(CursorWrapper, "execute", recording)

    def of_loads(self):
        return [sql for alias, sql in self.statements if alias == "control" and "load" in sql]


@pytest.fixture
def asked(monkeypatch, installation):
    return Asked(monkeypatch)


def test_idle_tenants_cost_control_no_statement(acme, globex, asked):
    loads = Loads()
    loads.read()
    assert len(asked.of_loads()) == 1

    for _ in range(20):
        run_round([acme.id, globex.id], loads=loads, unasked=[acme.id, globex.id])
        loads.note()

    assert len(asked.of_loads()) == 1
    assert sum(alias.startswith("t_") for alias, _ in asked.statements) >= 40


def test_a_look_that_finds_all_as_it_was_writes_nothing(alice, acme, asked):
    ask("acme", alice)
    look()
    before = len(asked.of_loads())

    look()

    after = asked.of_loads()[before:]
    assert len(after) == 2 and all(sql.startswith("SELECT") for sql in after)


def test_notes_come_after_what_is_sent_and_not_once_a_scan(alice, mallory, acme, globex, asked):
    ask("acme", alice, 3)
    ask("globex", mallory, 3)
    loads, sent = Loads(), []

    def send(task):
        sent.append(task)
        assert asked.of_loads() == []

    tenants = [acme.id, globex.id]
    while tenants := run_round(tenants, send, loads=loads):
        pass
    assert len(sent) == 2
    loads.note()
    loads.note()

    assert len(asked.of_loads()) == 2  # what is there, and what is new, for both tenants together, once


def plant(count, **loads):
    """Tenants of which control knows, and no more than that; with so much work, if any."""
    with control_plane():
        server = Tenant.objects.get(slug="acme").server
        tenants = [Tenant(slug=f"t{number}", server=server, state="active") for number in range(count)]
        Tenant.objects.bulk_create(tenants, batch_size=1000)
        if loads:
            now = timezone.now()
            rows = [
                TenantLoad(
                    tenant=tenant,
                    noted_at=now,
                    **{name: start + step * number for name, (start, step) in loads.items()},
                )
                for number, tenant in enumerate(tenants)
            ]
            TenantLoad.objects.bulk_create(rows)


def test_ten_thousand_tenants_cost_a_reader_no_statement_more(acme, globex, asked):
    asked.statements.clear()
    total()
    few = [alias for alias, _ in asked.statements]
    plant(10_000)
    asked.statements.clear()

    total()

    assert [alias for alias, _ in asked.statements] == few == ["control"] * 6


def test_the_worst_are_ten_at_most_and_the_worst_come_first(acme):
    now = timezone.now()
    plant(25, queued=(1, 1), waiting_since=(now - timedelta(hours=1), timedelta(minutes=1)))

    found = total()

    assert [each.slug for each in found.deepest] == [f"t{number}" for number in range(24, 14, -1)]
    assert [each.slug for each in found.longest_waits] == [f"t{number}" for number in range(10)]
    assert len(found.deepest) == len(found.longest_waits) == WORST == 10
    assert found.counts["queued"] == sum(range(1, 26))


def test_tenants_whose_hint_nobody_follows_are_late(acme, globex):
    now = timezone.now()
    with control_plane():
        Tenant.objects.filter(slug="acme").update(look_at=now - timedelta(seconds=60))
        Tenant.objects.filter(slug="globex").update(look_at=now + timedelta(seconds=60))

    assert total().late == 1


def test_a_dispatcher_is_heard_of_until_it_ends_and_notes_what_is_asked_for(alice_api, alice, installation):
    with tenant_context("acme"):
        body = {"target": str(make_target(alice).pk), "profile": str(profile().pk)}
    assert (total().dispatchers, total().heard_of_at) == (0, None)
    process = start("dispatch")
    try:
        wait_until(lambda: total().dispatchers == 1)
        for _ in range(3):
            assert alice_api.post("/api/v1/scans/", body).status_code == 202

        wait_until(lambda: noted("acme") == NONE | {"queued": 2, "dispatched": 1})
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)

    assert total().dispatchers == 0, output
    assert total().counts == NONE | {"queued": 2, "dispatched": 1}


def test_one_that_was_killed_is_soon_not_heard_of_and_forgotten(acme):
    with control_plane():
        Dispatcher.objects.create(id=uuid4(), noted_at=timezone.now() - timedelta(seconds=61))
    assert total().dispatchers == 0

    loads = Loads()
    loads.go_on()

    assert total().dispatchers == 1
    with control_plane():
        assert Dispatcher.objects.count() == 1
    loads.end()
    assert total().dispatchers == 0


def test_rows_of_tenants_without_work_go_after_a_while(alice):
    scan = ask("acme", alice)
    look()
    end(scan)
    look()
    assert noted("acme") == NONE
    with control_plane():
        TenantLoad.objects.update(noted_at=timezone.now() - timedelta(seconds=61))

    Loads().go_on()

    assert noted("acme") is None
