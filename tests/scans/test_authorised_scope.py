"""What is authorised is the host and the ports that somebody saw, and nobody changes these at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from config.api import STALE
from scans.models import Authorization, Target
from tenants.audit.models import AuditHead
from tenants.audit.trail import lock_head
from tenants.context import tenant_context
from tests.conftest import api_client
from tests.scans.rows import authorize, make_target
from tests.scans.test_admin import ROOT, log_in, target_form


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        return make_target(alice)


def proof(**fields):
    expires_at = (timezone.now() + timedelta(days=7)).isoformat()
    return {"statement": "Signed by the CISO.", "intrusiveness": "passive", "expires_at": expires_at} | fields


def test_an_authorisation_that_names_the_version_it_read_holds_for_no_other_host(alice_api, tom_api, target):
    path = f"/api/v1/targets/{target.pk}/"
    read = alice_api.get(path).json()["version"]
    tom_api.patch(path, {"version": read, "host": "elsewhere.example.com"})

    refused = alice_api.post(f"{path}authorizations/", proof(version=read))
    with tenant_context("acme"):
        assert not Authorization.objects.exists()
    again = alice_api.post(f"{path}authorizations/", proof(version=refused.json()["version"]))

    assert (refused.status_code, refused.json()) == (409, STALE | {"version": 2, "errors": {}})
    assert again.status_code == 201


@pytest.mark.parametrize("version", [None, 0, "1", 1.0, True], ids=repr)
def test_an_authorisation_with_no_number_for_a_version_is_not_valid(alice_api, target, version):
    answer = alice_api.post(f"/api/v1/targets/{target.pk}/authorizations/", proof(version=version))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["version"])


def by_the_api(tom):
    api = api_client("acme", tom)
    return lambda target: api.patch(f"/api/v1/targets/{target.pk}/", {"version": 1, "host": "elsewhere.example.com"})


def on_the_page(tom):
    browser, form = log_in("acme", tom), target_form(host="elsewhere.example.com", ports="[80, 443]")
    return lambda target: browser.post(f"{ROOT}target/{target.pk}/change/", form)


WAYS = {"the API": by_the_api, "the workspace": on_the_page}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_host_that_is_being_authorised_is_not_changed_at_the_same_moment(target, alice, tom, monkeypatch, way):
    move, waits, select_for_update = way(tom), threading.Event(), QuerySet.select_for_update

    def noting(self, *args, **kwargs):
        if self.model is AuditHead and threading.current_thread() is not threading.main_thread():
            waits.set()
        return select_for_update(self, *args, **kwargs)

    def moved():
        try:
            return move(target).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with tenant_context("acme"), transaction.atomic():
            lock_head()
            monkeypatch.setattr(QuerySet, "select_for_update", noting)
            status = other.submit(moved)
            assert connection.vendor == "sqlite" or waits.wait(60)  # on SQLite its own transaction has not begun
            authorize(target, alice)
        assert status.result() in (409, 200, 302)  # on the page, which is shown again, or had no field for it

    with tenant_context("acme"):
        assert Target.objects.get().host == target.host
