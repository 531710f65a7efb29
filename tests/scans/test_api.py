"""Targets, authorizations and profiles over REST."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from scans.models import Authorization, ScanProfile, Target, TaskQueue
from scans.wakeup import wait_for_work
from tenants.context import tenant_context
from tests.scans.rows import authorize, make_scan, make_target

TARGET = {"name": "Web shop", "host": "Shop.Example.COM.", "ports": [443]}


def proof(**changes):
    return {"statement": "Signed.", "expires_at": (timezone.now() + timedelta(days=7)).isoformat()} | changes


@pytest.fixture
def target(acme, alice):
    with tenant_context("acme"):
        return make_target(alice)


@pytest.fixture
def foreign_target(globex, mallory):
    with tenant_context("globex"):
        return make_target(mallory, name="Globex")


def test_a_target_is_created_with_its_host_in_one_spelling(tom_api, tom):
    response = tom_api.post("/api/v1/targets/", TARGET)

    assert response.status_code == 201
    assert response.json()["host"] == "shop.example.com"
    assert response.json()["created_by"] == str(tom.pk)
    with tenant_context("acme"):
        assert Target.objects.get().host == "shop.example.com"


def test_what_is_read_only_or_unknown_is_ignored(tom_api, tom, alice):
    mine = {"id": str(uuid4()), "created_by": str(alice.pk), "created_at": "2001-01-01T00:00:00Z", "version": 7}
    unknown = {"tenant": "globex", "authorised": True, "role": "owner", "argv": ["--script=x"]}

    created = tom_api.post("/api/v1/targets/", TARGET | mine | unknown).json()

    assert created["id"] != mine["id"]
    assert created["created_by"] == str(tom.pk)
    assert created["created_at"] > "2020"
    assert created["version"] == 1
    fields = {"id", "name", "host", "ports", "ca_pem", "is_active", "created_by", "created_at", "version"}
    assert created.keys() == fields


BAD_TARGETS = {
    "a URL": {"host": "https://shop.example.com/"},
    "a port in the host": {"host": "shop.example.com:443"},
    "a short address": {"host": "127.1"},
    "a hexadecimal address": {"host": "0x7f000001"},
    "a range": {"host": "192.0.2.0/24"},
    "an option": {"host": "--script=x"},
    "a full-width name": {"host": "ｓhop.example.com"},
    "the cloud's metadata": {"host": "169.254.169.254"},
    "the cloud's metadata in IPv6 clothes": {"host": "::ffff:169.254.169.254"},
    "no host": {"host": ""},
    "a host that is null": {"host": None},
    "a host that is a list": {"host": ["shop.example.com"]},
    "a long host": {"host": "a" * 300},
    "no ports": {"ports": []},
    "port 0": {"ports": [0]},
    "port 65536": {"ports": [65536]},
    "a huge port": {"ports": [10**30]},
    "a port twice": {"ports": [80, 80]},
    "a port in words": {"ports": ["80"]},
    "a port that is true": {"ports": [True]},
    "a port that is a fraction": {"ports": [80.0]},
    "ports that are an object": {"ports": {"80": True}},
    "too many ports": {"ports": list(range(1, 102))},
    "no name": {"name": " "},
    "a long name": {"name": "n" * 121},
    "no certificate": {"ca_pem": "hello"},
    "a private key": {"ca_pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
    "a long certificate": {"ca_pem": "x" * 20_001},
    "no yes or no": {"is_active": "perhaps"},
}


@pytest.mark.parametrize("fault", BAD_TARGETS.values(), ids=BAD_TARGETS.keys())
def test_a_target_that_is_none_is_refused_by_the_field(alice_api, fault):
    response = alice_api.post("/api/v1/targets/", TARGET | fault)

    assert response.status_code == 400
    assert response.json().keys() == {"code", "detail", "errors"}
    assert response.json()["errors"].keys() == fault.keys()
    with tenant_context("acme"):
        assert not Target.objects.exists()


def test_a_target_is_read_and_changed(tom_api, target):
    path = f"/api/v1/targets/{target.pk}/"

    changed = tom_api.patch(path, {"version": 1, "name": "Renamed", "ports": [8443]})

    assert changed.status_code == 200
    assert tom_api.get(path).json() == changed.json()
    assert (changed.json()["name"], changed.json()["ports"]) == ("Renamed", [8443])


def test_a_target_is_neither_replaced_nor_deleted(alice_api, target):
    path = f"/api/v1/targets/{target.pk}/"

    assert alice_api.put(path, TARGET).status_code == 405
    assert alice_api.delete(path).status_code == 405
    assert alice_api.get(path).status_code == 200


@pytest.mark.parametrize("change", [{"host": "elsewhere.example.com"}, {"ports": [80, 443, 22]}, {"ports": [80]}])
def test_a_valid_authorisation_cannot_be_moved_to_another_scope(alice_api, tom_api, target, alice, change):
    path = f"/api/v1/targets/{target.pk}/"
    with tenant_context("acme"):
        authorization = authorize(target, alice)

    refused = tom_api.patch(path, change | {"version": 1, "name": "Renamed"})
    harmless = tom_api.patch(path, {"version": 1, "host": target.host, "ports": target.ports, "name": "Same scope"})
    alice_api.post(f"{path}authorizations/{authorization.pk}/revoke/")
    allowed = tom_api.patch(path, change | {"version": 2})

    assert (refused.status_code, refused.json()["code"]) == (409, "target_authorized")
    assert (harmless.status_code, harmless.json()["name"]) == (200, "Same scope")
    assert allowed.status_code == 200


def test_an_owner_authorises_and_everybody_sees_it(alice_api, tom_api, target, alice):
    path = f"/api/v1/targets/{target.pk}/authorizations/"

    created = alice_api.post(path, proof(intrusiveness="passive"))

    assert created.status_code == 201
    assert created.json()["target"] == str(target.pk)
    assert created.json()["created_by"] == str(alice.pk)
    assert created.json()["method"] == "statement"
    assert tom_api.get(path).json()["results"] == [created.json()]


def test_a_tester_can_neither_authorise_nor_revoke(alice_api, tom_api, target, alice):
    with tenant_context("acme"):
        authorization = authorize(target, alice)
    path = f"/api/v1/targets/{target.pk}/authorizations/"

    refusals = [tom_api.post(path, proof()), tom_api.post(f"{path}{authorization.pk}/revoke/")]

    assert [(refusal.status_code, refusal.json()["code"]) for refusal in refusals] == [(403, "permission_denied")] * 2
    with tenant_context("acme"):
        assert [row.revoked_at for row in Authorization.objects.all()] == [None]
    assert alice_api.post(path, proof()).status_code == 201


BAD_PROOFS = {
    "no statement": {"statement": ""},
    "a long statement": {"statement": "s" * 4001},
    "the past": {"expires_at": "2001-01-01T00:00:00Z"},
    "too long": {"expires_at": (timezone.now() + timedelta(days=91)).isoformat()},
    "no time": {"expires_at": "tomorrow"},
    "a time that is a number": {"expires_at": 4102444800},
    "a time beyond time": {"expires_at": "9999-12-31T23:59:59-23:59"},
    "intrusive tests": {"intrusiveness": "intrusive"},
    "an intrusiveness that is a list": {"intrusiveness": ["passive"]},
}


@pytest.mark.parametrize("fault", BAD_PROOFS.values(), ids=BAD_PROOFS.keys())
def test_a_bad_authorisation_is_refused_by_the_field(alice_api, target, fault):
    response = alice_api.post(f"/api/v1/targets/{target.pk}/authorizations/", proof(**fault))

    assert response.status_code == 400
    assert response.json()["errors"].keys() == fault.keys()
    with tenant_context("acme"):
        assert not Authorization.objects.exists()


def test_an_authorisation_cannot_say_that_it_was_not_revoked_or_is_anothers(alice_api, target, alice, tom):
    other = {"revoked_at": "2001-01-01T00:00:00Z", "created_by": str(tom.pk), "method": "dns", "target": str(uuid4())}

    created = alice_api.post(f"/api/v1/targets/{target.pk}/authorizations/", proof(**other)).json()

    assert created["revoked_at"] is None
    assert (created["created_by"], created["method"], created["target"]) == (
        str(alice.pk),
        "statement",
        str(target.pk),
    )


def test_a_revocation_is_dated_by_the_database_and_its_first_moment_stands(alice_api, target, alice):
    with tenant_context("acme"):
        authorization = authorize(target, alice)
    path = f"/api/v1/targets/{target.pk}/authorizations/{authorization.pk}/revoke/"

    first = alice_api.post(path, {"revoked_at": "2001-01-01T00:00:00Z"})
    second = alice_api.post(path)

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    with tenant_context("acme"):
        authorization.refresh_from_db()
        assert abs(authorization.revoked_at - timezone.now()) < timedelta(minutes=1)
        assert not target.authorizations.valid().exists()


def test_an_authorisation_is_found_under_its_own_target_only(alice_api, target, alice):
    with tenant_context("acme"):
        other = make_target(alice, name="Other")
        authorization = authorize(target, alice)

    mixed = alice_api.post(f"/api/v1/targets/{other.pk}/authorizations/{authorization.pk}/revoke/")

    assert mixed.status_code == 404
    assert alice_api.post(f"/api/v1/targets/{target.pk}/authorizations/{authorization.pk}/revoke/").status_code == 200


def test_the_standard_profile_is_there(tom_api):
    (profile,) = tom_api.get("/api/v1/profiles/").json()["results"]

    assert profile["name"] == "standard"
    assert profile["engines"] == {"ports": {}, "tls": {}, "http": {}}
    assert profile["intrusiveness"] == "safe_active"
    assert tom_api.get(f"/api/v1/profiles/{profile['id']}/").json() == profile


def test_a_profile_is_created_and_its_name_is_taken(tom_api):
    first = tom_api.post("/api/v1/profiles/", {"name": "quick", "engines": {"ports": {"parallel": 4}}})
    second = tom_api.post("/api/v1/profiles/", {"name": "quick", "engines": {"tls": {}}})
    other_case = tom_api.post("/api/v1/profiles/", {"name": "Quick", "engines": {"tls": {}}})

    assert (first.status_code, first.json()["engines"]) == (201, {"ports": {"parallel": 4}})
    assert (second.status_code, second.json()["errors"].keys()) == (400, {"name"})
    assert other_case.status_code == 201


BAD_ENGINES = {
    "none": {},
    "a list": ["ports"],
    "a text": "ports",
    "null": None,
    "an unknown engine": {"shell": {}},
    "an unknown option": {"ports": {"argv": ["--script=x"]}},
    "options that are none": {"ports": None},
    "options that are a list": {"ports": [1]},
    "an option out of range": {"ports": {"parallel": 10**30}},
    "an option of another type": {"ports": {"parallel": "4"}},
    "an option that is a list": {"ports": {"parallel": [4]}},
    "an option that is an object": {"ports": {"parallel": {}}},
    "an option that is true": {"ports": {"parallel": True}},
}


@pytest.mark.parametrize("engines", BAD_ENGINES.values(), ids=BAD_ENGINES.keys())
def test_a_profile_holds_known_engines_with_bounded_options_only(tom_api, engines):
    response = tom_api.post("/api/v1/profiles/", {"name": "mine", "engines": engines})

    assert response.status_code == 400
    assert response.json()["errors"].keys() == {"engines"}
    with tenant_context("acme"):
        assert list(ScanProfile.objects.values_list("name", flat=True)) == ["standard"]


def test_an_unexpected_member_of_a_list_is_no_oracle(alice_api, mallory_api, target, foreign_target):
    mine = alice_api.get("/api/v1/targets/").json()

    assert (mine["count"], [row["id"] for row in mine["results"]]) == (1, [str(target.pk)])
    assert [row["id"] for row in mallory_api.get("/api/v1/targets/").json()["results"]] == [str(foreign_target.pk)]


FOREIGN_REQUESTS = {
    "read": ("get", "/api/v1/targets/{}/", None),
    "head": ("head", "/api/v1/targets/{}/", None),
    "patch": ("patch", "/api/v1/targets/{}/", {"name": "x"}),
    "authorizations": ("get", "/api/v1/targets/{}/authorizations/", None),
    "authorize": ("post", "/api/v1/targets/{}/authorizations/", proof()),
    "authorize badly": ("post", "/api/v1/targets/{}/authorizations/", {}),
}


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN_REQUESTS.values(), ids=FOREIGN_REQUESTS.keys())
def test_a_foreign_target_is_a_missing_one(alice_api, mallory_api, foreign_target, method, path, body):
    foreign = getattr(alice_api, method)(path.format(foreign_target.pk), body)
    missing = getattr(alice_api, method)(path.format(uuid4()), body)
    own = getattr(mallory_api, method)(path.format(foreign_target.pk), body)

    assert foreign.status_code == missing.status_code == 404
    assert foreign.content == missing.content
    assert _headers(foreign) == _headers(missing)
    assert own.status_code in (200, 201, 400)


def _headers(response):
    return {name: value for name, value in response.headers.items() if name not in ("Date", "X-Request-ID")}


def test_whoever_was_disabled_neither_reads_nor_writes(alice_api, tom_api, alice):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).update(is_active=False)

    refused = [alice_api.get("/api/v1/targets/"), alice_api.post("/api/v1/targets/", TARGET)]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(401, "not_authenticated")] * 2
    assert tom_api.get("/api/v1/targets/").json()["count"] == 0


def test_nobody_sees_anything(stranger_api, target):
    for path in ("targets/", f"targets/{target.pk}/", f"targets/{target.pk}/authorizations/", "profiles/", "scans/"):
        response = stranger_api.get(f"/api/v1/{path}")
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


@pytest.mark.parametrize("mend", ["authorizations/", ""])
def test_what_makes_a_blocked_scan_runnable_wakes_the_dispatcher(acme, alice_api, target, alice, mend):
    with tenant_context("acme"):
        scan = make_scan(target, alice, state="blocked", reason="authorization_missing")
        TaskQueue.objects.create(task_id=scan.number, available_at=timezone.now() + timedelta(hours=1))

    path = f"/api/v1/targets/{target.pk}/{mend}"
    response = alice_api.post(path, proof()) if mend else alice_api.patch(path, {"version": 1, "is_active": True})

    assert response.status_code in (200, 201) and wait_for_work(1) == [acme.pk]
    with tenant_context("acme"):
        assert TaskQueue.objects.filter(available_at__lte=timezone.now()).exists()
