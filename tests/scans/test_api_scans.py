"""Scans and findings over REST."""

from contextvars import Context
from datetime import timedelta
from uuid import uuid4

import django_rq
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from scans.models import Authorization, Finding, Scan, ScanCounter, ScanProfile, Target, TaskQueue
from scans.wakeup import KEY
from tenants.accounts import logins
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_finding, make_run, make_scan, make_target

PATH = "/api/v1/scans/"


@pytest.fixture
def target(acme, alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return target


@pytest.fixture
def body(target):
    with tenant_context("acme"):
        return {"target": str(target.pk), "profile": str(ScanProfile.objects.get().pk)}


@pytest.fixture
def foreign_finding(globex, mallory):
    with tenant_context("globex"):
        target = make_target(mallory)
        authorize(target, mallory)
        return make_finding(make_run(make_scan(target, mallory)))


def traces(slug):
    """What an accepted scan leaves anywhere."""
    with tenant_context(slug):
        rows = (Scan.objects.count(), TaskQueue.objects.count(), ScanCounter.objects.get().number)
    return rows, django_rq.get_connection("default").keys()


NO_TRACES = ((0, 0, 0), [])


def test_a_scan_is_accepted_and_written_down_with_its_task(tom_api, tom, acme, body):
    response = tom_api.post(PATH, body)

    assert response.status_code == 202
    scan = response.json()
    assert (scan["number"], scan["state"], scan["progress"], scan["created_by"]) == (1, "queued", 0, str(tom.pk))
    assert response["Location"] == f"{PATH}{scan['id']}/"
    detail = tom_api.get(response["Location"]).json()
    assert detail.keys() - scan.keys() == {"runs", "events"} and detail | scan == detail and detail["runs"] == []
    assert [(event["state"], event["by"]) for event in detail["events"]] == [("queued", str(tom.pk))]
    with tenant_context("acme"):
        assert list(TaskQueue.objects.values_list("task_id", "handled_at")) == [(1, None)]
    assert django_rq.get_connection("default").zrange(KEY, 0, -1) == [acme.id.hex.encode()]


def test_scans_are_numbered_per_tenant_and_listed_newest_first(alice_api, mallory_api, body):
    for _ in range(3):
        alice_api.post(PATH, body)

    assert [scan["number"] for scan in alice_api.get(PATH).json()["results"]] == [3, 2, 1]
    assert mallory_api.get(PATH).json()["results"] == []


def test_a_scan_takes_its_target_and_profile_from_the_body_and_nothing_else(alice_api, alice, body):
    wishes = {"state": "succeeded", "number": 99, "progress": 100, "created_by": str(uuid4()), "tenant": "globex"}
    wishes |= {"reason": "x", "engines": {"nmap": {}}, "authorised": True, "started_at": "2001-01-01T00:00:00Z"}

    scan = alice_api.post(PATH, body | wishes).json()

    assert (scan["state"], scan["number"], scan["progress"]) == ("queued", 1, 0)
    assert (scan["created_by"], scan["reason"], scan["started_at"]) == (str(alice.pk), "", None)


REFUSALS = {
    "target_inactive": lambda: Target.objects.update(is_active=False),
    "authorization_missing": lambda: Authorization.objects.all().delete(),
    "authorization_revoked": lambda: Authorization.objects.update(revoked_at=timezone.now()),
    "authorization_stale": lambda: Authorization.objects.update(expires_at=timezone.now() - timedelta(minutes=1)),
    "intrusiveness_too_high": lambda: Authorization.objects.update(intrusiveness="passive"),
}


@pytest.mark.parametrize(("code", "spoil"), REFUSALS.items(), ids=REFUSALS.keys())
def test_a_scan_that_may_not_run_is_refused_and_leaves_nothing(alice_api, body, code, spoil):
    with tenant_context("acme"):
        spoil()

    response = alice_api.post(PATH, body)

    assert (response.status_code, response.json()["code"]) == (409, code)
    assert response.json().keys() == {"code", "detail"}
    assert traces("acme") == NO_TRACES


BAD_REFERENCES = {
    "no reference": None,
    "an empty one": "",
    "no UUID": "41",
    "a number": 41,
    "true": True,
    "a list": [],
    "an object": {},
    "a huge number": 10**50,
}


@pytest.mark.parametrize("value", BAD_REFERENCES.values(), ids=BAD_REFERENCES.keys())
@pytest.mark.parametrize("name", ["target", "profile"])
def test_a_malformed_reference_is_refused_by_its_field_and_leaves_nothing(alice_api, body, name, value):
    response = alice_api.post(PATH, body | {name: value})

    assert response.status_code == 400
    assert response.json()["errors"].keys() == {name}
    assert traces("acme") == NO_TRACES


@pytest.mark.parametrize("name", ["target", "profile"])
def test_a_foreign_reference_is_a_missing_one_and_leaves_nothing(alice_api, mallory_api, body, foreign_finding, name):
    with tenant_context("globex"):
        theirs = {"target": str(foreign_finding.target_id), "profile": str(ScanProfile.objects.get().pk)}

    foreign = alice_api.post(PATH, body | {name: theirs[name]})
    missing = alice_api.post(PATH, body | {name: str(uuid4())})

    assert foreign.status_code == missing.status_code == 400
    assert foreign.content == missing.content
    assert traces("acme") == NO_TRACES
    assert mallory_api.post(PATH, theirs).status_code == 202


@pytest.mark.parametrize("path", ["scans/{}/", "scans/{}/report.html", "findings/{}/"])
@pytest.mark.parametrize("method", ["get", "head", "post", "patch", "delete"])
def test_a_foreign_scan_or_finding_is_a_missing_one(alice_api, mallory_api, foreign_finding, path, method):
    with tenant_context("globex"):
        scan = Scan.objects.get()
    key = foreign_finding.pk if path.startswith("findings") else scan.pk

    foreign = getattr(alice_api, method)("/api/v1/" + path.format(key))
    missing = getattr(alice_api, method)("/api/v1/" + path.format(uuid4()))
    own = getattr(mallory_api, method)("/api/v1/" + path.format(key))

    assert foreign.status_code == missing.status_code == (404 if method in ("get", "head") else 405)
    assert foreign.content == missing.content
    assert _headers(foreign) == _headers(missing)
    assert own.status_code == (200 if method in ("get", "head") else 405)


def _headers(response):
    return {name: value for name, value in response.headers.items() if name not in ("Date", "X-Request-ID")}


def test_a_scan_shows_its_runs_with_what_they_covered_and_what_not(tom_api, target, alice):
    with tenant_context("acme"):
        scan = make_scan(target, alice, state=Scan.State.PARTIAL, reason="not_covered", progress=100)
        make_run(scan, "tls", coverage=[["tls.version.tls10", 443]], not_covered=[["tls.version.tls10", 80, "no TLS"]])

    shown = tom_api.get(f"{PATH}{scan.pk}/").json()

    assert (shown["state"], shown["reason"], shown["progress"]) == ("partial", "not_covered", 100)
    (run,) = shown["runs"]
    assert (run["engine"], run["outcome"], run["is_healthy"]) == ("tls", "completed", True)
    assert run["coverage"] == [["tls.version.tls10", 443]]
    assert run["not_covered"] == [["tls.version.tls10", 80, "no TLS"]]
    assert "argv" not in run


@pytest.fixture
def findings(target, alice):
    """By name, as (finding, scan)."""
    with tenant_context("acme"):
        other = make_target(alice, name="Other", host="other.example.com")
        first, second = make_scan(target, alice), make_scan(other, alice)
        first_run, second_run = make_run(first), make_run(second)
        return {
            "open": (make_finding(first_run, "seen"), first),
            "fixed": (make_finding(first_run, path="/b", state=Finding.State.FIXED, severity="high"), first),
            "other": (make_finding(second_run, severity="critical"), second),
        }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["other", "fixed", "open"]),
        ("state=open", ["other", "open"]),
        ("state=fixed", ["fixed"]),
        ("severity=high", ["fixed"]),
        ("severity=low", []),
        ("target={target}", ["fixed", "open"]),
        ("scan={scan}", ["other"]),
        ("target={target}&scan={scan}", []),
        ("target={target}&state=open&severity=medium", ["open"]),
        ("target={unknown}", []),
        ("scan={unknown}", []),
        ("ordering=severity&tenant=globex", ["other", "fixed", "open"]),
    ],
)
def test_findings_are_filtered_and_newest_first(tom_api, findings, target, query, names):
    query = query.format(target=target.pk, scan=findings["other"][1].pk, unknown=uuid4())

    page = tom_api.get(f"/api/v1/findings/?{query}").json()

    assert [row["id"] for row in page["results"]] == [str(findings[name][0].pk) for name in names]
    assert page["count"] == len(names)


def test_filters_by_another_tenants_ids_find_nothing(alice_api, mallory_api, foreign_finding, findings):
    with tenant_context("globex"):
        scan = Scan.objects.get()

    for query in (f"target={foreign_finding.target_id}", f"scan={scan.pk}"):
        assert alice_api.get(f"/api/v1/findings/?{query}").json()["count"] == 0
        assert mallory_api.get(f"/api/v1/findings/?{query}").json()["count"] == 1


BAD_FILTERS = [
    "target=41",
    "target=",
    "scan=x",
    "scan=%00",
    "state=all",
    "state=",
    "state=OPEN",
    "severity=5",
    "severity=%F0%9F",
]


@pytest.mark.parametrize("query", BAD_FILTERS)
def test_a_bad_filter_is_refused_by_its_name(tom_api, query):
    response = tom_api.get(f"/api/v1/findings/?{query}")

    assert response.status_code == 400
    assert list(response.json()["errors"]) == [query.partition("=")[0]]


def test_a_finding_shows_where_and_when_it_was_seen_newest_first(tom_api, findings, alice):
    finding, scan = findings["open"]
    with tenant_context("acme"):
        again = make_scan(finding.target, alice)
        finding.occurrences.create(run=make_run(again), evidence="<b>again</b>")

    shown = tom_api.get(f"/api/v1/findings/{finding.pk}/").json()

    assert [(row["scan"], row["evidence"], row["engine"]) for row in shown["occurrences"]] == [
        (str(again.pk), "<b>again</b>", "http"),
        (str(scan.pk), "seen", "http"),
    ]
    assert (shown["cwe"], shown["remediation"], shown["version"]) == (693, "Send one.", 1)


def test_lists_cost_the_same_number_of_queries_whatever_their_length(tom_api, findings, target, alice, monkeypatch):
    def queries(path):
        with tenant_context("acme"), CaptureQueriesContext(connection) as captured:
            assert Context().run(tom_api.get, path).status_code == 200  # unbound, as servers are
            return len(captured.captured_queries)

    monkeypatch.setattr(logins, "FRESH_SECONDS", 600.0)
    queries(PATH)  # whether her log-in stands is read once a second
    paths = [PATH, "/api/v1/findings/", "/api/v1/targets/", f"/api/v1/targets/{target.pk}/authorizations/"]
    before = [queries(path) for path in paths]
    with tenant_context("acme"):
        for number in range(5):
            other = make_target(alice)
            authorize(target, alice)
            make_finding(make_run(make_scan(other, alice)), path=f"/{number}")

    assert [queries(path) for path in paths] == before
    assert 2 <= min(before) <= max(before) <= 3


def test_a_report_is_a_page_that_runs_nothing_and_is_kept_nowhere(tom_api, findings):
    finding, scan = findings["open"]

    response = tom_api.get(f"{PATH}{scan.pk}/report.html", headers={"Accept": "text/html"})

    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"
    policy = response["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox")
    assert response["Cache-Control"] == "no-store"
    assert finding.title in response.content.decode()


def test_a_report_is_refused_as_json(stranger_api, findings):
    response = stranger_api.get(f"{PATH}{findings['open'][1].pk}/report.html", headers={"Accept": "text/html"})

    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
