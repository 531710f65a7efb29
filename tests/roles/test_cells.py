"""Every cell of docs/reference/roles.md, asked through the API and through the workspace by a member of each role."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from tenants.accounts.api_keys import make_key
from tenants.audit.models import AuditEvent
from tenants.context import tenant_context
from tests.installation import PASSWORD
from tests.roles.table import MEMBERS, ROLES, SUPPORT
from tests.roles.ways import WORKSPACE, Way, api_ways, workspace_ways
from tests.routes.asking import ask
from tests.routes.world import contents, recorded
from tests.scans.rows import authorize, make_finding, make_run, make_scan, make_target
from tests.tenants.browsing import log_in
from tests.tenants.supporting import asked_by, entered

REFUSED = b'{"code":"permission_denied","detail":"Your role does not allow this."}'
NOBODY = "ghost"  # a role that no table has: reading is refused too
# What the workspace has no page for, whatever the role: authorizations are added on their target's.
NOT_IN_THE_WORKSPACE = {"scans/authorization/add/", "scans/scan/add/"}
DONE = {"GET": {200}, "HEAD": {200}, "PATCH": {200}, "POST": {200, 201, 202, 302}, "DELETE": {204}}


@pytest.fixture
def ids(alice, tom, member):
    """A row of everything, an API key of the one who asks, and an account that is not theirs."""
    with tenant_context("acme"):
        target = make_target(alice, name="shop")
        authorization = authorize(target, alice)
        scan = make_scan(target, alice)
        finding = make_finding(make_run(scan))
        key, _ = make_key(member, name="CI", expires_at=timezone.now() + timedelta(days=1))
        asked, also_asked = asked_by("olga"), asked_by("omar")
        event = AuditEvent.objects.first()
        rows = [tom, key, asked, target, authorization, scan.profile, scan, finding, event]
        found = {row._meta.model_name: str(row.pk) for row in rows}
        return found | {"asked": str(asked.pk), "also_asked": str(also_asked.pk)}


@pytest.fixture
def member(acme, role):
    with tenant_context("acme"):
        return get_user_model().objects.create_user("casey", PASSWORD, role="reader" if role in SUPPORT else role)


@pytest.fixture
def workspace(member, role, alice_api):
    if role in SUPPORT:
        return entered(alice_api, "full" if role == "support-full" else "read")
    browser = Client(raise_request_exception=False)
    assert log_in(browser, "/t/acme/", "casey").status_code == 302
    return browser


@pytest.fixture
def api(member):
    client = Client(raise_request_exception=False)
    credentials = {"tenant": "acme", "username": "casey", "password": PASSWORD}
    access = ask(client, "POST", "/api/v1/token/", credentials).json()["access"]
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {access}"
    return client


def is_allowed(role: str, way: Way) -> bool:
    return way.action in MEMBERS.get((role, way.resource), ())


def is_anybodys(way: Way) -> bool:
    return any(is_allowed(role, way) for role in ROLES)


def rows(way: Way) -> list[tuple]:
    with tenant_context("acme"):
        return list(apps.get_model(way.resource)._base_manager.order_by("pk").values_list())


def data() -> dict[str, list]:
    """Every row of acme's, save what is written down of what was done or refused."""
    logs = ("django_admin_log", "audit_auditevent", "audit_audithead")
    return {table: found for table, found in contents("acme").items() if table not in logs}


def require_done(client, way: Way, mount: str) -> None:
    before = rows(way)
    answer = ask(client, way.method, mount + way.path, way.body)

    assert answer.status_code in DONE[way.method], (way, answer.content[:2000])
    assert (rows(way) == before) == (way.method in ("GET", "HEAD")), way


@pytest.mark.parametrize("role", [*ROLES, NOBODY])
def test_the_api_does_for_a_role_what_its_cells_say_and_refuses_the_rest(api, role, ids):
    ways = [way.of(ids) for way in api_ways()]
    before, events = data(), recorded("acme")
    for way in ways:
        if not is_allowed(role, way):
            answer = ask(api, way.method, "/api/v1/" + way.path, way.body)
            if is_anybodys(way):
                assert (answer.status_code, answer.content) == (403, b"" if way.method == "HEAD" else REFUSED), way
            else:
                assert answer.status_code == 405, way
    assert data() == before
    assert set(recorded("acme")[len(events) :]) <= {"refused"}

    for way in ways:
        if is_allowed(role, way):
            require_done(api, way, "/api/v1/")


@pytest.mark.parametrize("role", [NOBODY])
def test_each_right_by_itself_opens_its_own_cell_of_the_api_and_no_other(api, role, ids, monkeypatch):
    ways = [way.of(ids) for way in api_ways()]
    rights = sorted({(way.resource, way.action) for way in ways if is_anybodys(way)})
    for resource, action in rights:
        monkeypatch.setattr(settings, "RIGHTS", {"tenant": {resource: {action: (NOBODY,)}}})
        for way in ways:
            if is_anybodys(way):
                answer = ask(api, way.method, "/api/v1/" + way.path, way.body)
                is_opened = (way.resource, way.action) == (resource, action)
                assert (answer.status_code != 403) == is_opened, (resource, action, way)
    assert len(rights) >= 11


@pytest.mark.parametrize("role", [*ROLES, *SUPPORT, NOBODY])
def test_the_workspace_does_for_a_role_what_its_cells_say_and_refuses_the_rest(workspace, role, ids):
    ways = [way.of(ids) for way in workspace_ways()]
    before, events = data(), recorded("acme")
    for way in ways:
        if not is_allowed(role, way) or way.path in NOT_IN_THE_WORKSPACE:
            answer = ask(workspace, way.method, "/t/acme/" + way.path, way.body)
            assert answer.status_code in refusals(role, way), way
    assert data() == before
    assert set(recorded("acme")[len(events) :]) <= {"refused"}

    for way in ways:
        if is_allowed(role, way) and way.path not in NOT_IN_THE_WORKSPACE:
            require_done(workspace, way, "/t/acme/")


def refusals(role: str, way: Way) -> set[int]:
    """403, unless the page is theirs and only what was sent to it is not: that is ignored."""
    is_theirs = {
        WORKSPACE.get(way.resource): "view" in MEMBERS.get((role, way.resource), ()),
        f"{WORKSPACE['scans.target']}{way.path.split('/')[-3:][0]}/change/": "change"
        in MEMBERS.get((role, "scans.target"), ()),
    }
    return {200, 302} if is_theirs.get(way.path) else {403}


SHOWN_WITH = {"scans.scanrun": "scans.scan", "scans.scanevent": "scans.scan", "scans.occurrence": "scans.finding"}


def test_every_cell_is_asked_that_a_page_or_a_route_stands_for():
    resources = {resource for (_, resource), actions in MEMBERS.items() if actions}

    of_the_workspace = {"accounts.signinpolicy", "accounts.identityprovider"}
    assert resources - {way.resource for way in api_ways()} == of_the_workspace | set(SHOWN_WITH)
    assert resources - {way.resource for way in workspace_ways()} == {"accounts.apikey"} | set(SHOWN_WITH)
    for role in ROLES:
        for shown, with_ in SHOWN_WITH.items():
            assert MEMBERS[role, shown] == MEMBERS[role, with_] & {"view"}
        assert ("view" in MEMBERS[role, "scans.scan"]) <= ("view" in MEMBERS[role, "scans.finding"])  # its report
