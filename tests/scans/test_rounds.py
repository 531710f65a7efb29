"""Whom a dispatcher looks at when nobody has woken it."""

import logging
from datetime import timedelta
from uuid import uuid4

import django_rq
import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from scans import rounds
from scans.dispatch import run_dispatcher, run_round
from scans.leases import take_lease
from scans.models import ScanProfile, Target, TaskQueue
from scans.rounds import AT_ONCE, HINTS_SECONDS, LOOKS_A_SECOND, ROOM_SECONDS, TURN, Rounds, Waiting, hinted_tenants
from scans.services import request_scan
from scans.wakeup import KEY, wake_dispatcher
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, tenant_context
from tenants.load import LATE_SECONDS
from tenants.models import DatabaseServer, Tenant
from tenants.services import suspend_tenant
from tests.faults.many import register
from tests.scans.rows import authorize, make_target
from tests.scans.scanning import start, wait_until

PATH = "/api/v1/scans/"


@pytest.fixture
def body(alice, globex):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return {"target": str(target.pk), "profile": str(ScanProfile.objects.get().pk)}


def hint():
    with control_plane():
        return Tenant.objects.values_list("look_at", flat=True).get(slug="acme")


def look():
    """A dispatcher's, at those who are hinted at."""
    hints = hinted_tenants()
    sent = []
    while hints:
        hints = {tenant: hints[tenant] for tenant in run_round(hints, sent.append, hints)}
    return [task.task_id for task in sent]


def test_what_is_asked_for_is_noted_in_control_and_idle_tenants_are_not_looked_at(alice_api, body, acme):
    assert hinted_tenants() == {}

    alice_api.post(PATH, body)

    assert list(hinted_tenants()) == [acme.id] and look() == [1]


def test_what_is_refused_or_undone_is_not_noted(alice, alice_api, body):
    assert alice_api.post(PATH, body | {"priority": 0}).status_code == 400
    with tenant_context("acme"), transaction.atomic():
        request_scan(target=Target.objects.get(), profile=ScanProfile.objects.get(), user=alice)
        transaction.set_rollback(True)

    assert hint() is None
    with tenant_context("acme"):
        assert not TaskQueue.objects.exists()


def test_a_look_that_finds_nothing_due_notes_when_something_will_be(alice_api, body, acme):
    alice_api.post(PATH, body)
    look()
    with tenant_context("acme"):
        available_at = TaskQueue.objects.get().available_at
    assert hint() == available_at > timezone.now() and look() == []

    with tenant_context("acme"):
        take_lease(TaskQueue.objects.get().message_id).finish("succeeded")
    with control_plane():
        Tenant.objects.update(look_at=Now())
    look()
    assert hint() is None and hinted_tenants() == {}


def test_a_tenant_whose_scans_wait_for_room_is_not_late(alice_api, body, acme):
    for _ in range(2):
        alice_api.post(PATH, body)
    long_ago = timezone.now() - timedelta(hours=1)
    assert look() == [1]
    with tenant_context("acme"):
        TaskQueue.objects.filter(task_id=2).update(available_at=long_ago)
    with control_plane():
        Tenant.objects.update(look_at=long_ago)

    assert look() == []  # one is on its way, which is all that may be
    assert timezone.now() - hint() < timedelta(minutes=1)
    assert hint() <= timezone.now() + timedelta(seconds=ROOM_SECONDS) and ROOM_SECONDS + HINTS_SECONDS <= LATE_SECONDS


def test_who_waits_for_room_is_not_looked_at_every_time_hints_are_read(alice_api, body, monkeypatch):
    """Three hundred such tenants would be all that a dispatcher gets round to."""
    monkeypatch.setattr(rounds, "ROOM_SECONDS", 3600)
    for _ in range(2):
        alice_api.post(PATH, body)
    assert look() == [1]

    assert hinted_tenants() == {} and hint() is not None


def test_who_waits_for_room_is_looked_at_when_a_lease_runs_out(alice_api, body, monkeypatch):
    monkeypatch.setattr(rounds, "ROOM_SECONDS", 3600)
    for _ in range(2):
        alice_api.post(PATH, body)
    assert look() == [1]
    soon = timezone.now().replace(microsecond=0) + timedelta(minutes=10)
    with tenant_context("acme"):
        TaskQueue.objects.filter(task_id=1).update(lease_until=soon, available_at=soon)
    with control_plane():
        Tenant.objects.exclude(look_at=None).update(look_at=Now())

    look()

    assert hint() == soon


def test_who_could_not_be_looked_at_hides_nobody_elses_hint(alice_api, body, acme, monkeypatch):
    """As the tenants of a silent server do, whose hints are always the oldest."""
    monkeypatch.setattr(rounds, "HINTED_AT_ONCE", 1)
    monkeypatch.setattr(rounds, "PASSED_OVER_SECONDS", 3600)
    alice_api.post(PATH, body)
    with control_plane():
        server = DatabaseServer.objects.get(pk=acme.server_id)
    [sick] = register(["initech"], server)  # it has no database
    with control_plane():
        Tenant.objects.filter(pk=sick.pk).update(look_at=acme.created_at)
    assert list(hinted_tenants()) == [sick.pk]

    assert look() == []

    assert list(hinted_tenants()) == [acme.pk] and look() == [1]
    with control_plane():
        look_at = Tenant.objects.get(pk=sick.pk).look_at
    assert look_at > timezone.now()


def test_a_hint_that_is_newer_than_the_failure_is_kept(globex, monkeypatch):
    suspend_tenant(slug="globex")
    newer = timezone.now().replace(microsecond=0)
    with control_plane():
        Tenant.objects.filter(pk=globex.pk).update(look_at=newer)

    run_round([globex.pk], hints={globex.pk: globex.created_at})

    with control_plane():
        assert Tenant.objects.get(pk=globex.pk).look_at == newer


def test_a_dead_workers_scan_is_looked_at_when_its_lease_has_run_out(alice_api, body):
    alice_api.post(PATH, body)
    look()
    with tenant_context("acme"):
        past = timezone.now() - timedelta(seconds=1)
        TaskQueue.objects.update(lease_until=past, available_at=past)
    with control_plane():
        Tenant.objects.exclude(look_at=None).update(look_at=past)

    assert look() == [1]


def test_a_hint_that_came_during_the_look_is_kept(alice_api, body):
    alice_api.post(PATH, body)
    seen = hinted_tenants()
    alice_api.post(PATH, body)
    newer = hint()
    assert newer > next(iter(seen.values()))

    while run_round(seen, lambda task: None, seen):
        pass

    assert hint() == newer


def test_a_scan_whose_wake_up_was_lost_is_sent_within_seconds_by_its_hint(alice_api, body, installation, monkeypatch):
    queue = django_rq.get_queue("default")
    process = start("dispatch", BULKHEAD_SWEEP_SECONDS="3600")
    try:
        alice_api.post(PATH, body)
        wait_until(lambda: len(queue.job_ids) == 1)  # it runs, and its first round is over or begun
        with tenant_context("acme"):
            take_lease(TaskQueue.objects.get().message_id).finish("succeeded")
        monkeypatch.setattr("scans.wakeup.wake", lambda key, tenant: None)

        alice_api.post(PATH, body)

        wait_until(lambda: len(queue.job_ids) == 2)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(rounds.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize("count", [1, 3, 7, 1000, 10_000])
def test_a_round_over_all_is_spread_over_its_time_and_leaves_nobody_out(monkeypatch, settings, count):
    settings.BULKHEAD_SWEEP_SECONDS = 300
    everybody = [uuid4() for _ in range(count)]
    monkeypatch.setattr(rounds, "all_tenants", lambda: everybody)
    monkeypatch.setattr(rounds, "hinted_tenants", dict)
    clock, found = Clock(monkeypatch), Rounds()

    first = [found.due()[1] for _ in range(count // AT_ONCE + 1)]
    assert sum(first, []) == everybody and max(map(len, first)) <= AT_ONCE
    assert found.due()[1] == [] and found.wait_seconds() == rounds.LONGEST_WAIT_SECONDS

    takes = max(300, count / LOOKS_A_SECOND)
    clock.now += takes - 1
    assert found.due()[1] == []
    clock.now += 1
    second, waits = [], 0.0
    while len(second) < count:
        few = found.due()[1]
        assert len(few) <= AT_ONCE
        second += few
        clock.now += (wait := found.wait_seconds())
        waits += wait
        assert waits < takes + 10
    assert second == everybody
    assert waits > takes * 0.7 or count < 5


def test_who_is_looked_at_because_it_is_their_turn_takes_no_connections_place(acme, globex):
    def kept(*tenants, **options):
        assert run_round(tenants, **options) == []
        return [each for each in connections.all() if each.alias != "control"]

    close_tenant_connections()
    [of_acme] = kept("acme")
    assert kept("globex", unasked=["globex"]) == [of_acme]
    assert len(kept("globex")) == 2


def test_where_many_ask_the_round_gets_on_with_one_beside_each_four(monkeypatch):
    everybody = [uuid4() for _ in range(10)]
    monkeypatch.setattr(rounds, "all_tenants", lambda: everybody)
    monkeypatch.setattr(rounds, "hinted_tenants", dict)
    found = Rounds()

    assert [len(found.due(asking)[1]) for asking in (0, 3, 8, 40)] == [1, 1, 2, 6]


def test_who_asked_first_is_first_and_hinted_ones_come_beside_each_four():
    waiting = Waiting()
    asked, hinted = [[f"{kind} {number}" for number in range(40)] for kind in ("asked", "hinted")]
    waiting.add(asked, hinted=[*hinted, asked[39]])

    assert waiting.take() == asked[:16] + hinted[:4]
    waiting.add(["asked again"])
    assert waiting.take() == asked[16:32] + hinted[4:8]
    assert waiting.take() == asked[32:] + ["asked again"] + hinted[8:15]
    rest = [*waiting.take(), *waiting.take()]
    assert rest == hinted[15:] and waiting.take() == [] and not waiting


class PassedOver(logging.Handler):
    """Does ``first`` when a tenant is passed over, and counts how many are."""

    def __init__(self, first):
        super().__init__()
        self.count, self._first = 0, first

    def emit(self, record):
        if "is passed over" in record.getMessage():
            self.count += 1
            if self.count == 1:
                self._first()


def test_who_asks_waits_for_no_long_tail_of_hints(alice, body, acme, monkeypatch):
    queue = django_rq.get_queue("default")
    monkeypatch.setattr(rounds, "all_tenants", list)
    monkeypatch.setattr(rounds, "hinted_tenants", lambda: {uuid4(): timezone.now() for _ in range(10 * TURN)})
    with tenant_context("acme"), transaction.atomic():
        request_scan(target=Target.objects.get(), profile=ScanProfile.objects.get(), user=alice)
    queue.connection.delete(KEY)  # it asks during the round
    passed_over = PassedOver(lambda: wake_dispatcher(acme.pk))
    logging.getLogger("scans.dispatch").addHandler(passed_over)
    try:
        run_dispatcher(lambda: queue.count == 1 or passed_over.count == 10 * TURN)
    finally:
        logging.getLogger("scans.dispatch").removeHandler(passed_over)

    assert queue.count == 1 and passed_over.count == TURN


def test_who_is_found_by_the_round_over_all_has_a_hint_before_hints_are_read_again(alice_api, body, acme):
    """For when its worker dies, or Redis forgets the job: the next such round is minutes away."""
    queue = django_rq.get_queue("default")
    alice_api.post(PATH, body)
    queue.connection.delete(KEY)
    with control_plane():
        Tenant.objects.update(look_at=None)

    run_dispatcher(lambda: queue.count == 1)

    assert list(hinted_tenants()) == [acme.pk]


def test_who_was_served_keeps_the_hint_that_control_has(acme, globex):
    later = timezone.now().replace(microsecond=0) + timedelta(seconds=20)
    with control_plane():
        Tenant.objects.filter(pk=acme.pk).update(look_at=later)
    found = Rounds()
    found.served([acme.pk])
    found.served([globex.pk])

    assert list(found.due()[0]) == [globex.pk] and hint() == later


def test_hints_are_asked_for_every_few_seconds(monkeypatch):
    asked = []
    monkeypatch.setattr(rounds, "all_tenants", list)
    monkeypatch.setattr(rounds, "hinted_tenants", lambda: asked.append(1) or {})
    clock, found = Clock(monkeypatch), Rounds()

    for _ in range(20):
        found.due()
        clock.now += 1

    assert len(asked) == 4
