"""Trying passwords at the doors that take one, and what was counted of it."""

from datetime import timedelta

from django.db.models import F
from django.test import Client
from rest_framework.test import APIClient

from tenants.accounts.models import Tries
from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD

WRONG = "not the right password"
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
API, FORM = "token", "form"
FAILED = {API: 401, FORM: 200}
OPENED = {API: 200, FORM: 302}
REFUSED = 429


def attempt(door, tenant="acme", username="alice", password=WRONG, address=HERE, **headers):
    """``tenant``: a slug, or ``operator``, which has a form only."""
    if door == API:
        body = {"tenant": tenant, "username": username, "password": password}
        return APIClient().post("/api/v1/token/", body, format="json", REMOTE_ADDR=address, headers=headers)
    path = "/operator/login/" if tenant == "operator" else f"/t/{tenant}/login/"
    body = {"username": username, "password": password}
    return Client().post(path, body, REMOTE_ADDR=address, headers=headers)


def opens(door, tenant="acme", username="alice", **more):
    return attempt(door, tenant, username, PASSWORD, **more).status_code == OPENED[door]


def lock(door, tenant="acme", username="alice", **more):
    answers = [attempt(door, tenant, username, **more).status_code for _ in range(5)]
    assert answers == [FAILED[door]] * 5


def plane(tenant):
    return tenant_context(tenant) if tenant in ("acme", "globex") else control_plane()


def counted(tenant, kind):
    with plane(tenant):
        return sorted(Tries.objects.filter(kind=kind).values_list("failures", flat=True))


def set_failures(tenant, kind, failures):
    with plane(tenant):
        assert Tries.objects.filter(kind=kind).update(failures=failures)


def let_pass(tenant, seconds):
    """As if so much time had passed since."""
    gone = timedelta(seconds=seconds)
    with plane(tenant):
        Tries.objects.update(allowed_at=F("allowed_at") - gone, expires_at=F("expires_at") - gone)
