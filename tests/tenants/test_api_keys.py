"""Keys for programs: what they open, for how long, and how little of them is kept."""

import json
import logging
import secrets
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from rest_framework.test import APIClient

from tenants.accounts import api_keys
from tenants.accounts.models import ApiKey
from tenants.context import current_tenant, tenant_context
from tests.routes.world import contents
from tests.tenants.states import set_state

UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
PATH = "/api/v1/api-keys/"


def body(**changes):
    return {"name": "CI", "scope": "full", "expires_at": (timezone.now() + timedelta(days=30)).isoformat()} | changes


def made(client, **changes):
    answer = client.post(PATH, body(**changes), format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def using(key):
    return APIClient(headers={"Authorization": f"Bearer {key}"})


def row(key):
    with tenant_context("acme"):
        return ApiKey.objects.get(pk=key["id"])


@pytest.fixture
def key(tom_api):
    return made(tom_api)


def test_a_key_works_in_its_members_name(key, tom_api, tom):
    program = using(key["key"])

    me = program.get("/api/v1/me/").json()
    answer = program.post("/api/v1/targets/", {"name": "shop", "host": "shop.example", "ports": [80]}, format="json")

    assert (me["username"], me["role"], me["tenant"], answer.status_code) == ("tom", "tester", "acme", 201)


def test_a_key_is_shown_once_and_its_digest_alone_is_kept(key, tom_api, tom):
    listed = tom_api.get(PATH).json()["results"]
    secret = key["key"].split("_", 3)[3]

    assert [each["id"] for each in listed] == [key["id"]] and "key" not in listed[0] and "digest" not in listed[0]
    assert listed[0]["prefix"] == key["key"].split("_")[2]
    for plane in ("acme", "control"):
        assert secret not in str(contents(plane)) and key["key"] not in str(contents(plane))
    assert secret not in tom_api.get(f"{PATH}{key['id']}/").content.decode()


def test_a_key_is_in_no_log_whether_it_works_or_not(key, caplog):
    caplog.set_level(logging.DEBUG)
    using(key["key"]).get("/api/v1/me/")
    using(key["key"][:-1]).get("/api/v1/me/")

    assert key["key"].split("_", 3)[3][:-1] not in caplog.text


def test_a_key_that_reads_changes_nothing(tom_api):
    key = made(tom_api, scope="read")
    program = using(key["key"])
    target = {"name": "shop", "host": "shop.example", "ports": [80]}

    assert program.get("/api/v1/targets/").status_code == 200
    answer = program.post("/api/v1/targets/", target, format="json")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert tom_api.post("/api/v1/targets/", target, format="json").status_code == 201


def test_a_key_reads_when_nothing_else_is_said(tom_api):
    answer = tom_api.post(PATH, {name: value for name, value in body().items() if name != "scope"}, format="json")

    assert (answer.status_code, answer.json()["scope"]) == (201, "read")


def test_a_key_may_what_its_member_may_now(key):
    def authorise():
        return using(key["key"]).post(f"/api/v1/targets/{uuid.uuid4()}/authorizations/", {}, format="json").status_code

    before = authorise()
    with tenant_context("acme"):
        get_user_model().objects.filter(username="tom").update(role="owner")

    assert (before, authorise()) == (403, 404)


ENDS = {
    "revoked": lambda key, api: api.delete(f"{PATH}{key['id']}/"),
    "expired": lambda key, api: change(key, expires_at=timezone.now()),
    "its member disabled": lambda key, api: disable("tom"),
    "its member gone": lambda key, api: delete("tom"),
}


def change(key, **changes):
    with tenant_context("acme"):
        ApiKey.objects.filter(pk=key["id"]).update(**changes)


def disable(username):
    with tenant_context("acme"):
        get_user_model().objects.filter(username=username).update(is_active=False)


def delete(username):
    with tenant_context("acme"):
        get_user_model().objects.filter(username=username).delete()


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_key_that_has_ended_opens_nothing_from_the_next_request_on(key, tom_api, end):
    before = using(key["key"]).get("/api/v1/targets/").status_code
    end(key, tom_api)
    answer = using(key["key"]).get("/api/v1/targets/")

    assert (before, answer.status_code, answer.json()) == (200, 401, UNAUTHORISED)
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_key_can_be_revoked_again_and_stays_listed(key, tom_api):
    assert [tom_api.delete(f"{PATH}{key['id']}/").status_code for _ in range(2)] == [204, 204]
    assert tom_api.get(f"{PATH}{key['id']}/").json()["revoked_at"]


def test_a_key_makes_no_keys(key, tom_api):
    answer = using(key["key"]).post(PATH, body(), format="json")

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert len(tom_api.get(PATH).json()["results"]) == 1


def test_a_key_revokes_itself_and_no_other(key, tom_api):
    other = made(tom_api)
    assert using(key["key"]).delete(f"{PATH}{other['id']}/").status_code == 404
    assert using(key["key"]).delete(f"{PATH}{key['id']}/").status_code == 204
    assert using(key["key"]).get("/api/v1/me/").status_code == 401


def test_members_see_their_own_keys_and_an_owner_all_of_the_tenant(key, tom_api, alice_api, mallory_api):
    mine, theirs = made(alice_api), made(mallory_api)

    def listed(api):
        return {each["id"] for each in api.get(PATH).json()["results"]}

    assert (listed(tom_api), listed(alice_api)) == ({key["id"]}, {key["id"], mine["id"]})
    assert listed(mallory_api) == {theirs["id"]}
    assert [tom_api.delete(f"{PATH}{each['id']}/").status_code for each in (mine, theirs)] == [404, 404]
    assert [alice_api.delete(f"{PATH}{each['id']}/").status_code for each in (key, theirs)] == [204, 404]
    assert using(theirs["key"]).get("/api/v1/me/").json()["tenant"] == "globex"


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "2999-01-01T00:00:00Z"}, {"expires_at": None},
        {"expires_at": "soon"}, {"name": ""}, {"name": "x" * 81}, {"name": None}, {"scope": "root"}, {"scope": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_wish_makes_no_key(tom_api, changes):
    assert tom_api.post(PATH, body(**changes), format="json").status_code == 400
    assert tom_api.get(PATH).json()["results"] == []


def test_what_a_key_is_cannot_be_chosen(tom_api, tom, alice):
    wish = {"user": str(alice.pk), "prefix": "a" * 12, "digest": "0" * 64, "key": "x", "last_used_at": "2020-01-01"}
    key = made(tom_api, **wish)

    assert (key["user"], key["prefix"] != "a" * 12, key["last_used_at"]) == (str(tom.pk), True, None)
    assert using(key["key"]).get("/api/v1/me/").json()["username"] == "tom"


def test_the_last_use_is_noted_once_a_minute(key):
    program = using(key["key"])
    program.get("/api/v1/me/")
    first = row(key).last_used_at
    program.get("/api/v1/me/")
    again = row(key).last_used_at
    change(key, last_used_at=first - timedelta(seconds=61))
    program.get("/api/v1/me/")

    assert first is not None and again == first and row(key).last_used_at >= first


def variants(text, other):
    mark, tenant, prefix, secret = text.split("_", 3)
    return {
        "empty secret": f"{mark}_{tenant}_{prefix}_",
        "another secret": f"{mark}_{tenant}_{prefix}_{secrets.token_urlsafe(32)}",
        "a character less": text[:-1],
        "a character more": f"{text}A",
        "the last character changed": text[:-1] + ("A" if text[-1] != "A" else "B"),
        "another prefix": f"{mark}_{tenant}_{'a' * 12}_{secret}",
        "no prefix": f"{mark}_{tenant}__{secret}",
        "prefix in upper case": f"{mark}_{tenant}_{prefix.upper()}_{secret}",
        "SQL for a prefix": f"{mark}_{tenant}_' OR 1=1 --_{secret}",
        "another tenant": f"{mark}_{other}_{prefix}_{secret}",
        "an unknown tenant": f"{mark}_{uuid.uuid4().hex}_{prefix}_{secret}",
        "tenant in upper case": f"{mark}_{tenant.upper()}_{prefix}_{secret}",
        "tenant with hyphens": f"{mark}_{uuid.UUID(tenant)}_{prefix}_{secret}",
        "the slug": f"{mark}_acme_{prefix}_{secret}",
        "another mark": f"bhx_{tenant}_{prefix}_{secret}",
        "mark in upper case": f"BHK_{tenant}_{prefix}_{secret}",
        "the mark alone": "bhk_",
        "a NUL": f"{text}\0",
        "not ASCII": f"{text[:-1]}\xe9",
        "twice": f"{text},{text}",
        "oversized": f"{mark}_{tenant}_{prefix}_{secret * 200}",
        "its digest": f"{mark}_{tenant}_{prefix}_{'0' * 43}",
    }


@pytest.mark.parametrize("name", variants("bhk_" + "0" * 32 + "_" + "b" * 12 + "_" + "c" * 43, "0" * 32))
def test_what_is_not_the_key_opens_nothing(key, globex, name):
    forged = variants(key["key"], globex.pk.hex)[name]
    answer = using(forged).get("/api/v1/me/")

    assert (answer.status_code, answer.json()) == (401, UNAUTHORISED)
    assert using(key["key"]).get("/api/v1/me/").status_code == 200


def test_a_key_of_a_copied_row_opens_its_own_tenant_alone(key, globex, mallory):
    """As in a clone: the same row, in another tenant's database."""
    copied = {name: value for name, value in vars(row(key)).items() if not name.startswith("_")}
    with tenant_context("globex"):
        ApiKey.objects.create(**copied | {"user_id": mallory.pk})
    mark, _, rest = key["key"].split("_", 2)

    assert using(f"{mark}_{globex.pk.hex}_{rest}").get("/api/v1/me/").status_code == 401
    assert using(key["key"]).get("/api/v1/me/").json()["tenant"] == "acme"


def test_a_key_of_another_generation_of_the_database_opens_nothing(key, monkeypatch):
    """As after a restore, in which a key that was revoked since the copy is not."""
    with tenant_context("acme"):
        restored = replace(current_tenant(), generation=2)
    before = using(key["key"]).get("/api/v1/targets/").status_code
    monkeypatch.setattr(api_keys, "current_tenant", lambda: restored)

    assert (before, using(key["key"]).get("/api/v1/targets/").status_code) == (200, 401)


@pytest.mark.parametrize(("state", "status"), [("suspended", 403), ("maintenance", 503), ("deleting", 401)])
def test_a_genuine_key_means_what_its_tenants_state_says(key, state, status):
    set_state("acme", state)
    forged = key["key"][:-1] + ("A" if key["key"][-1] != "A" else "B")

    assert using(key["key"]).get("/api/v1/me/").status_code == status
    if state != "maintenance":
        assert using(forged).get("/api/v1/me/").status_code == 401


def test_a_key_is_no_refresh_token_and_logs_nobody_out(key):
    for path in ("token/refresh/", "token/logout/"):
        answer = APIClient().post(f"/api/v1/{path}", {"refresh": key["key"]}, format="json")
        assert (answer.status_code, json.loads(answer.content)) == (401, UNAUTHORISED)
