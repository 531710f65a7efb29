"""Tenants that hang in a dispatcher's rounds, by silent servers and by locks: the others are dispatched meanwhile."""

import logging
import threading
from contextlib import ExitStack

import pytest
from django.db import connection

from scans import rounds
from scans.dispatch import run_round, sweep
from scans.models import TaskQueue
from scans.rounds import Held
from scans.wakeup import wake_dispatcher
from tenants import breakers
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, tenant_context
from tenants.models import Tenant
from tenants.services import suspend_tenant
from tests.faults.many import add_copies, locked, register, silent_servers
from tests.scans.scanning import dispatching
from tests.scans.test_dispatch import ask
from tests.sick import timed, wait_until

MUST = "the rest are dispatched within 5 s more the first time, 1.1 times afterwards"
SQLITE = pytest.mark.parametrize("_engine", ["sqlite"], ids=["SQLite"], indirect=True)


@pytest.fixture(autouse=True)
def _nobody_is_silent(installation):
    yield
    breakers.start_over()


def test_of_many_silent_servers_a_dispatcher_waits_for_one_and_then_for_all_others_at_once(acme, alice):
    ask("acme", alice)
    with silent_servers(4) as servers:
        hung = [tenant for server in servers for tenant in register([f"{server.name}-a", f"{server.name}-b"], server)]
        sent = []
        run_round([hung[0].pk], sent.append)
        assert set(breakers.silent_servers()) == {f"{server.host}:{server.port}" for server in servers}

        assert run_round([*(tenant.pk for tenant in hung), acme.pk], sent.append) == [acme.pk] and len(sent) == 1


def test_while_no_other_server_is_silent_none_is_asked_again(acme, monkeypatch):
    """Neither while all is well, nor for what a tenant's own database says, nor for what is known."""
    asked = []
    with silent_servers(2) as servers:
        first, other = (register([server.name], server)[0] for server in servers)
        run_round([first.pk, other.pk])
        monkeypatch.setattr("tenants.servers.for_each_tenant", lambda *args, **options: asked.append(args) or [])
        run_round([first.pk, other.pk, acme.pk])
    assert asked == []


def rest_of(tenants, hung):
    return {tenant.pk for tenant in tenants} - {tenant.pk for tenant in hung}


def seconds_of_a_round(tenants, expected):
    """Each of those who are expected is sent one task."""
    done, seconds = timed(lambda: run_round([tenant.pk for tenant in tenants], lambda task: None))
    assert set(done) == expected
    return seconds


def mixed(tenants, hung):
    """One of those who hang after each share of the others."""
    share = len(tenants) // len(hung)
    return [each for number, one in enumerate(hung) for each in (*tenants[number * share : (number + 1) * share], one)]


def seconds_of_rounds(count, tenants, expected):
    return [seconds_of_a_round(tenants, expected) for _ in range(count)]


@pytest.mark.long
@SQLITE
def test_ten_of_200_on_ten_silent_servers(installation, acme, alice, fault):
    measured = fault("hung tenants in a sweep: 10 of 200, on ten silent servers", MUST)
    ask("acme", alice, 5)
    with silent_servers(10) as servers:
        copies = add_copies(acme, 190)
        hung = [register([server.name], server)[0] for server in servers]
        rest = rest_of(copies, hung)
        well = min(seconds_of_rounds(2, copies, rest))
        first, *later = seconds_of_rounds(3, mixed(copies, hung), rest)
    measured(f"{well:.2f} s while all is well; {first:.2f} s the first time, then {min(later):.2f} s")


@pytest.mark.long
@pytest.mark.parametrize("_engine", ["sqlite", "mysql"], ids=["SQLite", "MariaDB"], indirect=True)
def test_ten_of_40_whose_tasks_are_locked(installation, acme, alice, fault):
    measured = fault(f"hung tenants in a sweep: 10 of 40, by a lock ({installation.engine})", MUST)
    ask("acme", alice, 6)
    tenants = add_copies(acme, 40)
    hung = tenants[::4]
    everybody, rest = rest_of(tenants, []), rest_of(tenants, hung)
    well = min(seconds_of_rounds(2, tenants, everybody))
    close_tenant_connections()
    with locked(installation, hung):
        first, *later = seconds_of_rounds(3, tenants, rest)
    seconds_of_a_round(tenants, everybody)
    measured(f"{well:.2f} s while all is well; {first:.2f} s the first time, then {min(later):.2f} s")


def handed_over(slug):
    with tenant_context(slug):
        return TaskQueue.objects.filter(dispatches__gt=0).count()


def test_whose_tasks_are_locked_is_passed_over_without_a_wait(installation, acme, globex, alice, mallory):
    ask("acme", alice)
    ask("globex", mallory)
    held, sent = Held(), []
    with locked(installation, [acme]):
        done, seconds = timed(lambda: run_round([acme.pk, globex.pk], sent.append, held=held))
        assert done == [globex.pk] and len(sent) == 1
        assert seconds < 4  # what is waited for a lock otherwise; here it is milliseconds
        wait_until(lambda: held.due() == [acme.pk])
    assert run_round([acme.pk], sent.append, held=held) == [acme.pk] and len(sent) == 2
    assert held.due() == []


def test_whose_tasks_were_locked_is_forgotten_when_it_is_not_served_any_more(installation, acme):
    """Else a dispatcher would come back to it without a pause."""
    held = Held()
    with locked(installation, [acme]):
        run_round([acme.pk], held=held)
        assert held.wait_seconds() < 1e9
        suspend_tenant(slug="acme")
        run_round([acme.pk], held=held)
    assert held.wait_seconds() > 1e9


@SQLITE
def test_only_a_claim_is_impatient(acme, alice):
    ask("acme", alice)
    run_round([acme.pk], lambda task: None)
    with tenant_context("acme"), connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone() == (5000,)


@pytest.fixture
def tries(monkeypatch):
    """Set by each try that meets a lock."""
    event, add = threading.Event(), Held.add

    def adding(self, *args):
        add(self, *args)
        event.set()

    monkeypatch.setattr(Held, "add", adding)
    return event


def test_a_dispatcher_comes_back_by_itself_to_whose_tasks_were_locked(installation, acme, alice, tries, monkeypatch):
    """Nothing else leads it there: no hint, no round over all, and no other wake-up."""
    monkeypatch.setattr(rounds.Rounds, "due", lambda self, asking=0: ({}, []))
    ask("acme", alice)
    with ExitStack() as stack:
        with locked(installation, [acme]):
            wake_dispatcher(acme.pk)
            stack.enter_context(dispatching())
            assert tries.wait(60)
        wait_until(lambda: handed_over("acme") == 1)


def test_a_sweep_waits_a_little_for_whose_tasks_are_locked(installation, acme, alice, tries):
    ask("acme", alice)
    sent = []

    def work():
        try:
            sweep(sent.append)
        finally:
            close_tenant_connections()

    sweeping = threading.Thread(target=work)
    with locked(installation, [acme]):
        sweeping.start()
        assert tries.wait(60)
    sweeping.join(60)
    assert len(sent) == 1


def test_a_sweep_ends_while_tasks_are_locked_and_says_so_once(installation, acme, alice, caplog):
    ask("acme", alice)
    sent = []
    with locked(installation, [acme]):
        sweep(sent.append)
    assert sent == []
    [told] = [each for each in caplog.records if "has locked its tasks" in each.message]
    assert told.levelno == logging.WARNING and str(acme.pk) in told.message


def test_a_hint_that_led_to_locked_tasks_is_kept(installation, acme, alice):
    ask("acme", alice)
    with control_plane():
        Tenant.objects.filter(pk=acme.pk).update(look_at=acme.created_at)
        hints = rounds.hinted_tenants()
    assert acme.pk in hints
    with locked(installation, [acme]):
        run_round([acme.pk], lambda task: None, hints=hints)
    assert rounds.hinted_tenants()[acme.pk] == hints[acme.pk]


def test_the_longer_a_lock_is_held_the_less_often_it_is_met(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(rounds.time, "monotonic", lambda: now[0])
    held, pauses = Held(), []
    for _ in range(10):
        held.add("acme", Exception("locked"))
        assert held.due() == []
        pauses.append(round(held.wait_seconds(), 3))
        now[0] += held.wait_seconds() + 1e-6
        assert held.due() == ["acme"]
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]
    held.release("acme")
    assert held.due() == [] and held.wait_seconds() > 1e9
