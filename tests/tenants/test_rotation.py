"""A tenant's keys are replaced while it is served."""

import os
import threading
import time
from dataclasses import replace
from datetime import timedelta

import django_rq
import jwt
import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import registry as registry_module
from tenants import rotation
from tenants.context import control_plane, current_record, tenant_context
from tenants.exceptions import ForgedJobError, InvalidTokenError, InvalidTransitionError, TenantNotFoundError
from tenants.jobs import TenantJob
from tenants.models import LifecycleEvent, TenantKey
from tenants.rotation import rotate_tenant_keys
from tenants.tokens import TenantRefreshToken, verify
from tests.installation import PASSWORD
from tests.serving import WebServer, manage, seconds_until_always
from tests.tenants.browsing import is_in, log_in

REQUESTS = int(os.environ.get("REQUESTS", "600"))


@pytest.fixture
def at_once(monkeypatch):
    """The new key signs as soon as it is there: this process is the only one."""
    monkeypatch.setattr(rotation, "KNOWN_EVERYWHERE", timedelta(0))


def tokens_of(user):
    with tenant_context("acme"):
        refresh = TenantRefreshToken.for_user(user)
        return {"access": str(refresh.access_token), "refresh": str(refresh)}


def key_number(token):
    return int(jwt.get_unverified_header(token)["kid"].partition(".")[2])


def keys():
    with control_plane():
        return list(TenantKey.objects.filter(tenant__slug="acme").values_list("number", flat=True).order_by("number"))


def me(token):
    return APIClient().get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"}).status_code


def refresh(tokens):
    return APIClient().post("/api/v1/token/refresh/", {"refresh": tokens["refresh"]}, format="json")


def test_the_new_key_signs_once_every_process_can_know_it(alice):
    rotate_tenant_keys(slug="acme")
    with tenant_context("acme"):
        record = current_record()

    assert (key_number(tokens_of(alice)["access"]), sorted(record.sealed_keys), record.verifies(2)) == (1, [1, 2], True)
    assert timedelta(seconds=12) <= rotation.KNOWN_EVERYWHERE


@pytest.mark.parametrize("emergency", [False, True])
def test_a_machine_whose_clock_is_behind_signs_with_the_oldest_key_that_there_is(acme, monkeypatch, emergency):
    rotate_tenant_keys(slug="acme", emergency=emergency)
    with tenant_context("acme"):
        record = current_record()
    clock = registry_module.time.time
    monkeypatch.setattr(registry_module.time, "time", lambda: clock() - 3600)

    assert record.signing_number == (2 if emergency else 1)


def test_what_the_former_key_signed_goes_on_working(at_once, alice):
    before, browser = tokens_of(alice), Client()
    log_in(browser, "/t/acme/")
    rotate_tenant_keys(slug="acme")
    after = tokens_of(alice)

    assert (key_number(before["access"]), key_number(after["access"])) == (1, 2)
    assert (me(before["access"]), me(after["access"]), is_in(browser, "/t/acme/")) == (200, 200, True)
    renewed = refresh(before).json()
    assert key_number(renewed["refresh"]) == 2 and me(renewed["access"]) == 200


def test_what_the_former_key_signed_ends_with_its_grace(at_once, alice, monkeypatch):
    before, browser = tokens_of(alice), Client()
    log_in(browser, "/t/acme/")
    with tenant_context("acme"):
        signed = signing.dumps("value")
    rotate_tenant_keys(slug="acme")
    with control_plane():
        TenantKey.objects.filter(tenant__slug="acme", number=1).update(expires_at=timezone.now())
    registry_module.registry.clear()

    assert (me(before["access"]), refresh(before).status_code, is_in(browser, "/t/acme/")) == (401, 401, False)
    with tenant_context("acme"), pytest.raises(signing.BadSignature):
        signing.loads(signed)


def test_two_keys_live_at_most(at_once, alice):
    rotate_tenant_keys(slug="acme")
    with pytest.raises(InvalidTransitionError, match="verifies until"):
        rotate_tenant_keys(slug="acme")
    refused = keys()
    with control_plane():
        TenantKey.objects.filter(tenant__slug="acme", number=1).update(expires_at=timezone.now())
    rotate_tenant_keys(slug="acme")

    assert (refused, keys()) == ([1, 2], [2, 3])


def test_in_an_emergency_nothing_that_was_signed_before_counts(acme, globex, alice, mallory):
    before, browser, others = tokens_of(alice), Client(), APIClient()
    log_in(browser, "/t/acme/")
    rotate_tenant_keys(slug="acme")
    rotate_tenant_keys(slug="acme", emergency=True)
    after = tokens_of(alice)
    with tenant_context("globex"):
        other = str(TenantRefreshToken.for_user(mallory).access_token)

    assert keys() == [3]
    assert (me(before["access"]), refresh(before).status_code, is_in(browser, "/t/acme/")) == (401, 401, False)
    assert (me(after["access"]), me(other), others.get("/healthz").status_code) == (200, 200, 200)


@pytest.mark.parametrize("end", ["of its grace", "in an emergency"])
def test_a_job_is_run_in_the_grace_of_its_key_and_not_after_its_end(at_once, alice, settings, end):
    settings.BULKHEAD_JOB_FUNCTIONS = {"tests.tenants.states.set_state"}
    with tenant_context("acme"):
        connection = django_rq.get_connection("default")
        job = TenantJob.create("tests.tenants.states.set_state", ["acme", "active"], connection=connection, id="x" * 8)
    rotate_tenant_keys(slug="acme")
    assert job._verify().snapshot.slug == "acme"
    if end == "in an emergency":
        rotate_tenant_keys(slug="acme", emergency=True)
    else:
        with control_plane():
            TenantKey.objects.filter(tenant__slug="acme", number=1).update(expires_at=timezone.now())
        registry_module.registry.clear()
    with pytest.raises(ForgedJobError):
        job._verify()


def test_a_database_of_another_generation_accepts_nothing_of_the_former(alice):
    """As after a restore: log-ins that were ended since the copy was made stand in it again."""
    before, browser = tokens_of(alice), Client()
    log_in(browser, "/t/acme/")
    with tenant_context("acme"):
        record = current_record()
        purposes = [record.derived_key(1, purpose) for purpose in ("token", "job", "django")]
    restored = replace(record, snapshot=replace(record.snapshot, generation=2))
    again = [restored.derived_key(1, purpose) for purpose in ("token", "job", "django")]

    assert len({*purposes, *again}) == 6
    registry_module.registry._records[record.snapshot.id] = restored
    with pytest.raises(InvalidTokenError):
        verify(before["access"])


def test_a_rotation_stands_in_the_journal_and_an_unknown_tenant_has_none(acme):
    rotate_tenant_keys(slug="acme", emergency=True)
    with pytest.raises(TenantNotFoundError):
        rotate_tenant_keys(slug="nobody")

    with control_plane():
        events = LifecycleEvent.objects.filter(action="rotate").values_list("tenant__slug", "step", "detail")
        assert list(events) == [("acme", "key 2", "emergency")]


def test_no_request_fails_while_keys_are_rotated_and_an_emergency_is_heard_of_within_two_seconds(installation, acme):
    failed, answered, stop = [], [0], threading.Event()
    with WebServer(installation) as web:
        first = web.log_in("acme", "alice", PASSWORD)[1]

        def work():
            pair = web.log_in("acme", "alice", PASSWORD)[1]
            while not stop.is_set():
                status = web.ask("GET", "/api/v1/me/", token=pair["access"])[0]
                answered[0] += 1
                if answered[0] % 20 == 0:
                    status, pair = web.ask("POST", "/api/v1/token/refresh/", {"refresh": pair["refresh"]})
                if status != 200:
                    failed.append(status)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            manage(installation, "rotate_tenant_keys", "acme")
            deadline = time.monotonic() + 60
            while key_number(web.log_in("acme", "alice", PASSWORD)[1]["access"]) == 1:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            while answered[0] < REQUESTS and all(thread.is_alive() for thread in threads):
                time.sleep(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert (failed, answered[0] >= REQUESTS) == ([], True), answered

        manage(installation, "rotate_tenant_keys", "acme", "--emergency")
        assert seconds_until_always(401, lambda: web.ask("GET", "/api/v1/me/", token=first["access"])[0]) < 2.0
