"""The workspace's pages of targets, proof, profiles, scans and findings."""

from contextvars import Context
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from scans.models import Authorization, Scan, ScanProfile, Target, TaskQueue
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_finding, make_run, make_scan, make_target

ROOT = "/t/acme/scans/"
MODELS = ["target", "authorization", "scanprofile", "scan", "finding"]
NO_AUTHORIZATIONS = {"authorizations-TOTAL_FORMS": "0", "authorizations-INITIAL_FORMS": "0"}


def log_in(slug, user):
    """A session as the log-in page makes it, without the time that a password takes."""
    request = HttpRequest()
    with tenant_context(slug):
        request.session = SessionStore()
        login(request, user)
        request.session.save()
    client = Client()
    client.cookies[f"sessionid_{slug}"] = request.session.session_key
    return client


@pytest.fixture
def owner(alice):
    return log_in("acme", alice)


@pytest.fixture
def tester(tom):
    return log_in("acme", tom)


@pytest.fixture
def finding(alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        scan = make_scan(target, alice, state=Scan.State.PARTIAL, reason="not_covered")
        return make_finding(make_run(scan, not_covered=[["http.header.csp", 80, "no answer"]]), "Server: x<script>")


def target_form(**changes):
    fields = {"name": "Shop", "host": "Shop.Example.COM", "ports": "[443]", "ca_pem": "", "version": "1"}
    return fields | NO_AUTHORIZATIONS | changes


def authorization_form(**changes):
    tomorrow = timezone.now() + timedelta(days=1)
    return {
        "authorizations-TOTAL_FORMS": "1",
        "authorizations-INITIAL_FORMS": "0",
        "authorizations-0-statement": "Signed.",
        "authorizations-0-intrusiveness": "passive",
        "authorizations-0-expires_at_0": f"{tomorrow:%Y-%m-%d}",
        "authorizations-0-expires_at_1": "12:00",
    } | changes


@pytest.mark.parametrize("model", MODELS)
def test_both_roles_see_every_list_and_page(owner, tester, finding, model):
    with tenant_context("acme"):
        rows = {
            "target": finding.target,
            "authorization": Authorization.objects.get(),
            "scanprofile": ScanProfile.objects.get(),
            "scan": Scan.objects.get(),
            "finding": finding,
        }

    for client in (owner, tester):
        assert client.get(f"{ROOT}{model}/").status_code == 200
        assert client.get(f"{ROOT}{model}/{rows[model].pk}/change/").status_code == 200
        assert client.get("/t/acme/").status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_lists_cost_the_same_number_of_queries_whatever_their_length(owner, finding, alice, model):
    def queries():
        with tenant_context("acme"), CaptureQueriesContext(connection) as captured:
            assert Context().run(owner.get, f"{ROOT}{model}/").status_code == 200  # unbound, as servers are
            return len(captured.captured_queries)

    queries()  # content types are read once
    before = queries()
    with tenant_context("acme"):
        for number in range(5):
            target = make_target(alice, name=f"Target {number}")
            authorize(target, alice)
            make_finding(make_run(make_scan(target, alice)), path=f"/{number}")
            ScanProfile.objects.create(name=f"profile-{number}", engines={"tls": {}})

    assert queries() == before > 0


def test_a_target_with_many_authorisations_costs_no_more(owner, finding, alice):
    def queries():
        with tenant_context("acme"), CaptureQueriesContext(connection) as captured:
            assert Context().run(owner.get, f"{ROOT}target/{finding.target_id}/change/").status_code == 200
            return len(captured.captured_queries)

    queries()  # content types are read once
    before = queries()
    with tenant_context("acme"):
        for _ in range(5):
            authorize(finding.target, alice)

    assert queries() == before > 0


def test_a_tester_adds_a_target_with_its_host_in_one_spelling(tester, tom):
    response = tester.post(f"{ROOT}target/add/", target_form())

    assert response.status_code == 302
    with tenant_context("acme"):
        target = Target.objects.get()
        assert (target.host, target.ports, target.created_by_id) == ("shop.example.com", [443], tom.pk)


BAD_FIELDS = {
    "a URL": {"host": "https://shop.example.com"},
    "metadata": {"host": "169.254.169.254"},
    "no ports": {"ports": "[]"},
    "a number of 5000 digits": {"ports": "[" + "9" * 5000 + "]"},
    "100,000 levels": {"ports": "[" * 100_000},
    "no certificate": {"ca_pem": "hello"},
}


@pytest.mark.parametrize("fault", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_target_that_is_none_is_refused(tester, fault):
    response = tester.post(f"{ROOT}target/add/", target_form(**fault))

    assert response.status_code == 200
    assert list(response.context["adminform"].form.errors) == list(fault)
    with tenant_context("acme"):
        assert not Target.objects.exists()


def test_only_an_owner_adds_an_authorisation(owner, tester, alice):
    with tenant_context("acme"):
        target = make_target(alice)
    path = f"{ROOT}target/{target.pk}/change/"

    tester.post(path, target_form() | authorization_form())
    with tenant_context("acme"):
        assert not Authorization.objects.exists()
    owner.post(path, target_form(version="2") | authorization_form())

    with tenant_context("acme"):
        assert [(row.statement, row.created_by_id) for row in target.authorizations.all()] == [("Signed.", alice.pk)]


def test_an_authorisation_makes_blocked_scans_due(owner, alice):
    with tenant_context("acme"):
        target = make_target(alice)
        scan = make_scan(target, alice, state="blocked")
        TaskQueue.objects.create(task_id=scan.number, available_at=timezone.now() + timedelta(hours=1))

    owner.post(f"{ROOT}target/{target.pk}/change/", target_form() | authorization_form())

    with tenant_context("acme"):
        assert TaskQueue.objects.filter(available_at__lte=timezone.now()).exists()


def test_an_authorisation_is_bounded_here_too(owner, alice):
    with tenant_context("acme"):
        target = make_target(alice)
    late = authorization_form(**{"authorizations-0-expires_at_0": "2100-01-01"})

    response = owner.post(f"{ROOT}target/{target.pk}/change/", target_form() | late)

    assert response.status_code == 200
    with tenant_context("acme"):
        assert not Authorization.objects.exists()


def test_a_written_authorisation_is_not_changed_by_a_forged_form(owner, alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorization = authorize(target, alice, statement="As signed.")
    forged = authorization_form(
        **{
            "authorizations-INITIAL_FORMS": "1",
            "authorizations-0-id": str(authorization.pk),
            "authorizations-0-target": str(target.pk),
            "authorizations-0-DELETE": "on",
        }
    )

    owner.post(f"{ROOT}target/{target.pk}/change/", target_form() | forged)

    with tenant_context("acme"):
        assert list(target.authorizations.values_list("statement", flat=True)) == ["As signed."]


def test_a_valid_authorisation_cannot_be_moved_to_another_scope(owner, finding):
    path = f"{ROOT}target/{finding.target_id}/change/"
    move = target_form(host="elsewhere.example.com", ports="[22]", name="Renamed")

    owner.post(path, move)
    with tenant_context("acme"):
        target = Target.objects.get()
        assert (target.name, target.host, target.ports) == ("Renamed", "shop.example.com", [80, 443])
        Authorization.objects.update(revoked_at=timezone.now())
    owner.post(path, move | {"version": "2"})

    with tenant_context("acme"):
        assert Target.objects.get().host == "elsewhere.example.com"


def test_only_an_owner_revokes(owner, tester, finding):
    with tenant_context("acme"):
        authorization = Authorization.objects.get()
    action = {"action": "revoke", "_selected_action": [str(authorization.pk)]}

    tester.post(f"{ROOT}authorization/", action)
    with tenant_context("acme"):
        assert Authorization.objects.get().revoked_at is None
    owner.post(f"{ROOT}authorization/", action)

    with tenant_context("acme"):
        assert Authorization.objects.get().revoked_at is not None


@pytest.mark.parametrize("model", MODELS)
def test_nothing_here_is_deleted(owner, finding, model):
    with tenant_context("acme"):
        rows = {"target": finding.target, "scan": Scan.objects.get(), "finding": finding}
        row = rows.get(model) or (Authorization if model == "authorization" else ScanProfile).objects.get()

    response = owner.post(f"{ROOT}{model}/{row.pk}/delete/", {"post": "yes"})

    assert response.status_code == 403
    with tenant_context("acme"):
        assert type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", ["scan", "finding", "authorization"])
def test_what_was_found_is_not_made_up(owner, finding, model):
    assert owner.get(f"{ROOT}{model}/add/").status_code == 403
    assert owner.post(f"{ROOT}{model}/add/", {}).status_code == 403


def test_a_scan_and_a_finding_are_not_changed(owner, finding):
    with tenant_context("acme"):
        scan = Scan.objects.get()

    scan_answer = owner.post(f"{ROOT}scan/{scan.pk}/change/", {"state": "succeeded"})
    finding_answer = owner.post(f"{ROOT}finding/{finding.pk}/change/", {"state": "fixed"})

    assert scan_answer.status_code == finding_answer.status_code == 403
    with tenant_context("acme"):
        assert Scan.objects.get().state == "partial"


def test_a_profile_is_added_and_then_stands(tester):
    added = tester.post(f"{ROOT}scanprofile/add/", {"name": "quick", "engines": '{"tls": {}}'})
    refused = tester.post(f"{ROOT}scanprofile/add/", {"name": "evil", "engines": '{"nmap": {"argv": "-sS"}}'})
    with tenant_context("acme"):
        quick = ScanProfile.objects.get(name="quick")

    changed = tester.post(f"{ROOT}scanprofile/{quick.pk}/change/", {"name": "quick", "engines": '{"http": {}}'})

    assert (added.status_code, refused.status_code, changed.status_code) == (302, 200, 403)
    with tenant_context("acme"):
        assert dict(ScanProfile.objects.values_list("name", "engines"))["quick"] == {"tls": {}}
        assert not ScanProfile.objects.filter(name="evil").exists()


def test_a_scan_leads_to_its_report(tester, finding):
    with tenant_context("acme"):
        scan = Scan.objects.get()
    link = f"{ROOT}scan/{scan.pk}/report.html"

    page = tester.get(link)

    assert f'href="{link}"' in tester.get(f"{ROOT}scan/").content.decode()
    assert page.status_code == 200
    assert page["Content-Security-Policy"].startswith("default-src 'none'")
    assert finding.title in page.content.decode()


def test_evidence_is_escaped_and_shown_with_its_scan(tester, finding):
    page = tester.get(f"{ROOT}finding/{finding.pk}/change/").content.decode()

    assert "Server: x&lt;script&gt;" in page
    assert "x<script>" not in page


@pytest.mark.parametrize("page", ["scan/{}/change/", "scan/{}/report.html", "finding/{}/change/", "target/{}/change/"])
def test_a_foreign_row_is_a_missing_one(owner, mallory, page):
    with tenant_context("globex"):
        theirs = make_finding(make_run(make_scan(make_target(mallory), mallory)))
        keys = {"scan": Scan.objects.get().pk, "finding": theirs.pk, "target": theirs.target_id}
    key = keys[page.partition("/")[0]]

    foreign, missing = (owner.get(ROOT + page.format(pk)) for pk in (key, uuid4()))

    assert foreign.status_code == missing.status_code
    assert foreign.status_code in (302, 404)
    assert foreign.get("Location") == missing.get("Location")
    own = log_in("globex", mallory).get(ROOT.replace("acme", "globex") + page.format(key))
    assert own.status_code == 200


def test_nobody_sees_a_report_or_a_list(stranger_api, finding):
    with tenant_context("acme"):
        scan = Scan.objects.get()

    for path in (f"{ROOT}scan/", f"{ROOT}scan/{scan.pk}/report.html", f"{ROOT}finding/{finding.pk}/change/"):
        response = stranger_api.get(path)
        assert response.status_code == 302
        assert response["Location"].startswith("/t/acme/login/")
