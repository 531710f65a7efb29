"""An unsafe request is all or nothing, whatever it is answered, and nothing leaves the process before it is all."""

import pytest
from django.test import Client

from scans.models import Scan, TaskQueue
from scans.wakeup import wait_for_work
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_target
from tests.tenants.forge import Forge
from tests.tenants.plane_views import announced, read_by_others

REFUSALS, SUCCESSES = range(400, 600), range(200, 400)


@pytest.fixture
def client(settings, acme, alice):
    settings.ROOT_URLCONF = settings.WORKSPACE_URLCONF = "tests.tenants.plane_views"
    announced.clear()
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {Forge(alice).genuine}"})


@pytest.mark.parametrize("mount", ["/api/v1/", "/t/acme/"])
def test_each_status_of_400_or_more_undoes_what_was_written_and_lets_nothing_out(client, mount):
    answered = [client.post(f"{mount}announce/{status}/").status_code for status in REFUSALS]

    assert answered == list(REFUSALS)
    assert (read_by_others(), announced) == (0, [])


@pytest.mark.parametrize("mount", ["/api/v1/", "/t/acme/"])
def test_each_status_below_400_keeps_it_and_what_leaves_the_process_comes_after(client, mount):
    answered = [client.post(f"{mount}announce/{status}/").status_code for status in SUCCESSES]

    assert answered == list(SUCCESSES)
    assert announced == list(range(1, len(SUCCESSES) + 1))  # each was there before it was said


def test_a_scan_that_was_undone_with_its_request_wakes_nobody(client, acme, alice):
    with tenant_context("acme"):
        authorize(make_target(alice), alice)

    for status in (400, 404, 409, 500, 503):
        assert client.post(f"/api/v1/ask-for-a-scan/{status}/").status_code == status
    undone = wait_for_work(0)
    client.post("/api/v1/ask-for-a-scan/202/")

    assert (undone, wait_for_work(0)) == ([], [acme.pk])
    with tenant_context("acme"):
        assert (Scan.objects.count(), TaskQueue.objects.count()) == (1, 1)
