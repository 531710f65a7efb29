"""How many scans a tenant may ask for."""

from datetime import timedelta

import pytest
from django.db import transaction

from scans.models import Scan, ScanProfile, TaskQueue
from tenants.context import control_plane, tenant_context
from tenants.models import RegistryRevision, Tenant
from tests.scans.rows import authorize, make_target

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
