"""`users/`: who sees and changes accounts, and that a tenant always has an owner."""

import threading
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from tenants.context import control_plane, tenant_context
from tenants.exceptions import LastOwnerError
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.tenants.browsing import log_in
from tests.tenants.mailing import patch

USERS = "/api/v1/users/"
LEAVING = {"demoted": {"role": "tester"}, "disabled": {"is_active": False}}


def path(user):
    return f"{USERS}{user.pk}/"


def active_owners():
    with tenant_context("acme"):
        return set(get_user_model().objects.filter(role="owner", is_active=True).values_list("username", flat=True))


@pytest.fixture
def olivia(acme):
    with tenant_context("acme"):
        return get_user_model().objects.create_user("olivia", PASSWORD, role="owner")


def test_accounts_are_listed_with_what_they_may_and_without_their_passwords(alice_api, alice, tom):
    answer = alice_api.get(USERS)
    listed = answer.json()["results"]

    assert [each["username"] for each in listed] == ["alice", "tom"]
    assert set(listed[0]) == {
        "id", "username", "email", "role", "is_active", "is_invited", "last_login", "date_joined", "version",
    }  # fmt: skip
    assert "argon2" not in answer.content.decode()
    assert alice_api.get(path(tom)).json() == listed[1]


def test_an_owner_changes_role_address_and_whether_an_account_is_in_use(alice_api, tom):
    for changes in ({"role": "reader"}, {"email": "tom@acme.example"}, {"is_active": False}, {"is_active": True}):
        answer = patch(alice_api, path(tom), **changes)
        assert answer.status_code == 200 and answer.json() == answer.json() | changes

    with tenant_context("acme"):
        tom.refresh_from_db()
    assert (tom.role, tom.email, tom.is_active) == ("reader", "tom@acme.example", True)


def test_what_is_not_theirs_to_change_is_ignored(alice_api, tom):
    before = alice_api.get(path(tom)).json()
    wish = {"id": str(uuid.uuid4()), "username": "tim", "is_invited": True, "last_login": "2020-01-01T00:00:00Z"}
    wish |= {"password": "x", "date_joined": "2020-01-01T00:00:00Z", "is_superuser": True}

    assert patch(alice_api, path(tom), **wish).json() == before
    with tenant_context("acme"):
        assert get_user_model().objects.get(pk=tom.pk).password == tom.password


@pytest.mark.parametrize(
    "changes",
    [{"role": "operator"}, {"email": "x"}, {"email": "a@b.example\nBcc: c@d.example"}, {"is_active": "?"}],
    ids=str,
)
def test_a_malformed_change_changes_nothing(alice_api, tom, changes):
    before = alice_api.get(path(tom)).json()

    assert patch(alice_api, path(tom), **changes).status_code == 400
    assert alice_api.get(path(tom)).json() == before


def test_a_change_of_what_somebody_else_has_changed_is_refused_with_both_values(alice_api, tom):
    assert patch(alice_api, path(tom), role="reader").status_code == 200
    answer = alice_api.patch(path(tom), {"role": "auditor", "version": 1}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (409, "stale")
    assert answer.json()["errors"] == {"role": {"yours": "auditor", "theirs": "reader"}}
    assert alice_api.patch(path(tom), {"role": "auditor"}, format="json").status_code == 400


def test_operators_who_support_are_no_accounts_here(alice_api, acme):
    with tenant_context("acme"):
        visitor = get_user_model().objects.create_user("oscar", operator=uuid.uuid4(), is_active=False)

    assert alice_api.get(path(visitor)).status_code == 404
    assert "oscar" not in alice_api.get(USERS).content.decode()


def test_a_disabled_members_log_ins_end(alice_api, tom_api, tom):
    assert tom_api.get("/api/v1/me/").status_code == 200
    patch(alice_api, path(tom), is_active=False)

    assert tom_api.post("/api/v1/targets/", {}, format="json").status_code == 401


@pytest.mark.parametrize("changes", LEAVING.values(), ids=LEAVING)
def test_the_last_active_owner_stays_one(alice_api, alice, olivia, changes):
    assert patch(api_client("acme", olivia), path(alice), is_active=False).status_code == 200
    answer = patch(api_client("acme", olivia), path(olivia), **changes)

    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    assert active_owners() == {"olivia"}


def test_an_invited_owner_does_not_count_nor_one_of_another_tenant(alice_api, alice, mallory):
    invitation = {"username": "olga", "email": "olga@acme.example", "role": "owner"}
    assert alice_api.post(USERS, invitation, format="json").status_code == 201

    assert patch(alice_api, path(alice), role="tester").status_code == 409


@pytest.mark.parametrize("changes", LEAVING.values(), ids=LEAVING)
def test_of_two_owners_who_leave_at_once_one_stays(alice, olivia, changes):
    """Each by the other's hand, so that neither's own end keeps the second from asking."""
    for _ in range(5):
        with tenant_context("acme"):
            get_user_model().objects.filter(pk__in=[alice.pk, olivia.pk]).update(role="owner", is_active=True)
        apis = {olivia: api_client("acme", alice), alice: api_client("acme", olivia)}
        barrier, statuses = threading.Barrier(2), []

        def leave(user, api, barrier=barrier, statuses=statuses):
            body = changes | {"version": api.get(path(user)).json()["version"]}
            barrier.wait(120)
            statuses.append(api.patch(path(user), body, format="json").status_code)
            connections.close_all()

        threads = [threading.Thread(target=leave, args=each) for each in apis.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(active_owners()) == 1 and 200 in statuses


@pytest.mark.parametrize("changes", LEAVING.values(), ids=LEAVING)
def test_the_workspace_keeps_an_owner_too(alice, changes):
    browser = Client()
    log_in(browser, "/t/acme/")
    body = {"username": "alice", "role": "owner", "is_active": "on", "version": "1"} | changes
    body = {name: value for name, value in body.items() if value}
    answer = browser.post(f"/t/acme/accounts/user/{alice.pk}/change/", body)

    assert (answer.status_code, "nobody else is" in answer.content.decode()) == (200, True)
    assert active_owners() == {"alice"}


@pytest.mark.parametrize("changes", LEAVING.values(), ids=LEAVING)
def test_code_that_saves_an_account_keeps_an_owner_too(alice, changes):
    with tenant_context("acme"):
        member = get_user_model().objects.get(pk=alice.pk)
        for name, value in changes.items():
            setattr(member, name, value)
        with pytest.raises(LastOwnerError, match="alice"):
            member.save(update_fields=[*changes])
        member.save(update_fields=["email"])

    assert active_owners() == {"alice"}


def test_what_was_read_of_an_account_before_does_not_matter(alice, tom):
    """Read while they were a tester, disabled when they are the only owner."""
    with tenant_context("acme"):
        members = get_user_model().objects
        member = members.get(pk=tom.pk)
        members.filter(pk=tom.pk).update(role="owner")
        members.filter(pk=alice.pk).update(role="tester")
        member.is_active = False
        with pytest.raises(LastOwnerError):
            member.save(update_fields=["is_active"])


def test_operators_are_no_owners_and_may_all_be_disabled(acme):
    with control_plane():
        oscar = get_user_model().objects.get(username="oscar")
        oscar.is_active = False
        oscar.save(update_fields=["is_active"])
        assert not get_user_model().objects.filter(is_active=True).exists()
