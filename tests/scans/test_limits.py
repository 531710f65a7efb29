"""How many scans a tenant may ask for."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from scans.limits import require_engine_seconds, require_room_in_queue
from scans.models import Scan, ScanProfile, ScanRun, TaskQueue
from scans.services import _open_task
from tenants.context import control_plane, tenant_context
from tenants.models import RegistryRevision, Tenant
from tests.scans.rows import authorize, make_run, make_scan, make_target

PATH = "/api/v1/scans/"


@pytest.fixture
def body(alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return {"target": str(target.pk), "profile": str(ScanProfile.objects.get().pk)}


def allow(**limits):
    with control_plane(), transaction.atomic():
        RegistryRevision.publish(Tenant.objects.filter(slug="acme"), limits=limits)


def counts():
    with tenant_context("acme"):
        return Scan.objects.count(), TaskQueue.objects.count()


@pytest.mark.parametrize(
    ("limit", "code", "after"),
    [("queued_scans", "too_many_queued", "60"), ("scans_an_hour", "too_many_an_hour", "300")],
)
def test_beyond_its_limit_a_tenant_is_told_to_come_back_and_nothing_is_written(alice_api, body, limit, code, after):
    allow(**{limit: 2})
    assert [alice_api.post(PATH, body).status_code for _ in range(2)] == [202, 202]

    refused = alice_api.post(PATH, body)

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, code, after)
    assert counts() == (2, 2)


def test_what_a_worker_has_and_what_has_ended_is_queued_no_more(alice_api, body):
    allow(queued_scans=1)
    pk = alice_api.post(PATH, body).json()["id"]
    assert alice_api.post(PATH, body).status_code == 429

    assert alice_api.post(f"{PATH}{pk}/cancel/").status_code == 200
    assert alice_api.post(PATH, body).status_code == 202


def test_an_hour_later_a_tenant_may_ask_again(alice_api, body):
    allow(scans_an_hour=1)
    alice_api.post(PATH, body)
    with tenant_context("acme"):
        Scan.objects.update(created_at=Scan.objects.get().created_at - timedelta(hours=1, seconds=1))

    assert alice_api.post(PATH, body).status_code == 202


def test_one_tenants_limit_is_no_others(alice_api, mallory_api, body, mallory):
    allow(queued_scans=0)
    with tenant_context("globex"):
        target = make_target(mallory)
        authorize(target, mallory)
        theirs = {"target": str(target.pk), "profile": str(ScanProfile.objects.get().pk)}

    assert (alice_api.post(PATH, body).status_code, mallory_api.post(PATH, theirs).status_code) == (429, 202)


@pytest.mark.parametrize(("priority", "status"), [(1, 202), (9, 202), (0, 400), (10, 400), ("x", 400), (None, 400)])
def test_a_priority_is_1_to_9(alice_api, body, priority, status):
    assert alice_api.post(PATH, body | {"priority": priority}).status_code == status
    with tenant_context("acme"):
        assert list(TaskQueue.objects.values_list("priority", flat=True)) == ([priority] if status == 202 else [])


def plans(act):
    """How the database finds the rows of each thing that ``act`` asks, in its own words."""
    with CaptureQueriesContext(connection) as asked:
        act()
    explain = "EXPLAIN " if connection.vendor == "mysql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        for query in [query["sql"] for query in asked if query["sql"].startswith("SELECT")]:
            cursor.execute(explain + query)
            yield query, str(cursor.fetchall())


@pytest.fixture
def long_ago(alice):
    """Forty scans that ended yesterday, each with a task and a run."""
    with tenant_context("acme"):
        target, at = make_target(alice), timezone.now() - timedelta(days=2)
        for _ in range(40):
            scan = make_scan(target, alice, state="succeeded")
            make_run(scan, started_at=at, ended_at=at)
            TaskQueue.objects.create(task_id=scan.number)
        Scan.objects.update(created_at=at)
        return scan


def test_no_limit_is_held_by_reading_all_that_ever_was(long_ago, alice):
    allow(engine_seconds_a_day=100)
    with tenant_context("acme"):
        [queued, an_hour] = plans(require_room_in_queue)
        [seconds] = plans(require_engine_seconds)
        [task] = plans(lambda: _open_task(long_ago).first())

        assert "taskqueue_" in queued[1] and "scan_asked" in an_hour[1] and "scanrun_took" in seconds[1]
        assert "task_id" in task[1]


def test_a_run_begins_by_the_databases_clock(alice, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda real=timezone.now: real() + timedelta(hours=2))
    with tenant_context("acme"):
        make_run(make_scan(make_target(alice), alice))

        assert ScanRun.objects.filter(started_at__lte=Now()).count() == 1
