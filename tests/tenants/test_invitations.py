"""Members who are invited: by whom, how their link lives and ends, and what the account is before it is accepted."""

import threading

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connections
from django.test import Client

from tenants.accounts import links
from tenants.accounts.models import MailLink
from tenants.audit.models import AuditEvent
from tenants.context import tenant_context
from tenants.rotation import rotate_tenant_keys
from tests.tenants.browsing import log_in
from tests.tenants.mailing import (
    NEW,
    ask,
    change,
    choose,
    code_in,
    empty_mailbox,
    is_chosen,
    let_pass,
    mails,
    new_mails,
    opens,
    patch,
)  # fmt: skip
from tests.tenants.states import set_state
from tests.tenants.test_api_keys import made, using
from tests.tenants.trying import API, FORM, attempt

USERS = "/api/v1/users/"
BOB = {"username": "bob", "email": "bob@acme.example", "role": "manager"}


@pytest.fixture(autouse=True)
def mailbox(acme, globex):
    yield
    empty_mailbox()


def invited(api, **changes):
    answer = api.post(USERS, BOB | changes, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


@pytest.fixture
def bob(alice_api):
    return invited(alice_api)


@pytest.fixture
def code(bob):
    (mail,) = new_mails()
    return code_in(mail)


def user(username="bob"):
    with tenant_context("acme"):
        return get_user_model().objects.get(username=username)


def invitation_of(bob):
    return f"{USERS}{bob['id']}/invitation/"


def test_somebody_who_is_invited_chooses_a_password_and_logs_in(bob):
    (mail,) = new_mails()
    text = mail.get_content()

    assert (mail["To"], mail["Subject"]) == ("bob@acme.example", "You are invited to Acme")
    assert "alice invites you to Acme, as manager. Your user name is bob." in text
    assert is_chosen(choose(code_in(mail)))
    assert attempt(API, username="bob", password=NEW).status_code == 200
    assert (user().role, user().is_active, user().is_invited) == ("manager", True, False)


def test_before_that_nobody_gets_in_by_any_door(bob, alice_api):
    account = user()

    assert (bob["is_active"], bob["is_invited"]) == (False, True)
    assert (account.is_active, account.is_invited, account.has_usable_password()) == (False, True, False)
    for door in (API, FORM):
        for password in ("", "!", account.password):
            assert attempt(door, username="bob", password=password, address=f"192.0.2.{len(password)}").status_code in (
                200, 400, 401, 429,
            )  # fmt: skip
    assert new_mails()[0]["To"] == "bob@acme.example"
    assert ask(username="bob").status_code == 200 and new_mails() == []


@pytest.mark.parametrize("role", ["owner", "manager", "tester", "reader", "auditor"])
def test_the_role_is_the_one_that_the_owner_chose(alice_api, role):
    invited(alice_api, role=role)

    assert user().role == role


def test_what_an_invitation_does_not_say_cannot_be_chosen_with_it(alice_api):
    bob = invited(alice_api, is_active=True, is_invited=False, password=NEW, id="1", last_login="2020-01-01T00:00:00Z")

    assert (bob["is_active"], bob["is_invited"], bob["last_login"]) == (False, True, None)
    assert not user().has_usable_password()


@pytest.mark.parametrize(
    "changes",
    [
        {"email": ""}, {"email": None}, {"email": "bob"}, {"email": "bob@acme.example\nBcc: eve@evil.example"},
        {"email": "bob@acme.example, eve@evil.example"}, {"email": ["bob@acme.example"]}, {"username": "bo b"},
        {"username": "bob\nBcc: eve@evil.example"}, {"username": "b\u00f6b"}, {"username": ""}, {"username": "b" * 65},
        {"username": "alice"}, {"role": "operator"}, {"role": ""}, {"role": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_invitation_invites_nobody(alice_api, changes):
    assert alice_api.post(USERS, BOB | changes, format="json").status_code == 400
    assert new_mails() == []


def test_an_address_and_a_role_have_to_be_thought_of_only_so_far(alice_api):
    assert alice_api.post(USERS, {"username": "bob"}, format="json").status_code == 400
    answer = alice_api.post(USERS, {"username": "bob", "email": "bob@acme.example"}, format="json")

    assert (answer.status_code, answer.json()["role"]) == (201, "tester")


ENDS = {
    "used": lambda bob, api, code: choose(code, password="another purple elephant"),
    "withdrawn": lambda bob, api, code: api.delete(invitation_of(bob)),
    "sent again": lambda bob, api, code: api.post(invitation_of(bob)),
    "three days": lambda bob, api, code: let_pass(days=3),
    "another address": lambda bob, api, code: patch(api, f"{USERS}{bob['id']}/", email="b@x.example"),
    "an emergency rotation": lambda bob, api, code: rotate_tenant_keys(slug="acme", emergency=True),
    "suspended": lambda bob, api, code: set_state("acme", "suspended"),
    "let in otherwise": lambda bob, api, code: change("bob", is_invited=False, is_active=True),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_invitation_that_has_ended_opens_nothing(bob, code, alice_api, end):
    assert opens(code)
    end(bob, alice_api, code)

    assert not is_chosen(choose(code))
    if end is ENDS["suspended"]:
        set_state("acme", "active")
        assert is_chosen(choose(code))


def test_an_invitation_lasts_for_three_days_and_through_a_rotation_of_keys_with_grace(code):
    rotate_tenant_keys(slug="acme")
    let_pass(days=2, hours=23)

    assert is_chosen(choose(code))


def test_an_invitation_that_is_sent_again_has_a_link_that_works(bob, code, alice_api):
    assert alice_api.delete(invitation_of(bob)).status_code == 204
    assert alice_api.post(invitation_of(bob)).status_code == 200
    (mail,) = new_mails()

    assert not is_chosen(choose(code)) and is_chosen(choose(code_in(mail)))


def test_one_that_is_withdrawn_before_it_was_sent_is_not_sent(bob, alice_api):
    assert [alice_api.delete(invitation_of(bob)).status_code for _ in range(2)] == [204, 204]

    assert new_mails() == []


def test_an_account_in_use_has_no_invitation_to_send_or_to_withdraw(alice_api, tom):
    for method in (alice_api.post, alice_api.delete):
        answer = method(f"{USERS}{tom.pk}/invitation/")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_invited")

    assert new_mails() == []


def test_an_invited_account_is_let_in_by_its_link_alone(bob, code, alice_api):
    answer = patch(alice_api, f"{USERS}{bob['id']}/", is_active=True)

    assert (answer.status_code, answer.json()["code"]) == (409, "invitation_pending")
    assert not user().is_active and opens(code)


def test_of_an_acceptance_and_a_withdrawal_at_once_one_happens(bob, code, alice_api, monkeypatch):
    barrier = threading.Barrier(2)

    def hash_and_wait(password):
        hashed = make_password(password)
        barrier.wait(120)
        return hashed

    monkeypatch.setattr(links, "make_password", hash_and_wait)
    answers = {}

    def accept():
        answers["accepted"] = is_chosen(choose(code))
        connections.close_all()

    thread = threading.Thread(target=accept)
    thread.start()
    barrier.wait(120)
    answers["withdrawn"] = alice_api.delete(invitation_of(bob)).status_code == 204
    thread.join()

    assert sorted(answers.values()) == [False, True]
    assert user().is_active == answers["accepted"]


def test_a_tenant_invites_so_many_a_day_and_no_more(alice_api, monkeypatch):
    monkeypatch.setattr(links, "INVITATIONS_A_DAY", 2)
    bob = invited(alice_api)
    assert alice_api.post(invitation_of(bob)).status_code == 200
    refused = [
        alice_api.post(USERS, BOB | {"username": "eve"}, format="json"), alice_api.post(invitation_of(bob)),
    ]  # fmt: skip

    for answer in refused:
        assert (answer.status_code, answer.json()["code"], int(answer["Retry-After"]) > 0) == (
            429,
            "too_many_mails",
            True,
        )
    with tenant_context("acme"):
        assert not get_user_model().objects.filter(username="eve").exists()
    let_pass(days=1)
    invited(alice_api, username="eve")


def test_an_api_key_manages_no_accounts_also_an_owners(alice_api, bob, tom):
    program = using(made(alice_api)["key"])
    asked = [
        program.post(USERS, BOB | {"username": "eve"}, format="json"),
        program.patch(f"{USERS}{tom.pk}/", {"role": "owner"}, format="json"),
        program.post(invitation_of(bob)),
        program.delete(invitation_of(bob)),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in asked] == [(403, "permission_denied")] * 4
    assert program.get(USERS).status_code == 200


def test_an_owner_invites_sends_again_and_withdraws_in_the_workspace(alice):
    browser = Client()
    log_in(browser, "/t/acme/")
    assert "/t/acme/accounts/user/invite/" in browser.get("/t/acme/accounts/user/").content.decode()
    page = browser.post("/t/acme/accounts/user/invite/", BOB)
    assert (page.status_code, page["Location"]) == (302, "/t/acme/accounts/user/")
    assert [mail["To"] for mail in new_mails()] == ["bob@acme.example"]

    def act(action):
        body = {"action": action, "_selected_action": [str(user().pk), str(alice.pk)]}
        return browser.post("/t/acme/accounts/user/", body, follow=True).content.decode()

    assert "Not invited: alice." in act("send_invitation")
    (mail,) = new_mails()
    assert opens(code_in(mail))
    assert "Invitation withdrawn: bob." in act("withdraw_invitation")
    assert not opens(code_in(mail)) and len(mails()) == 2


@pytest.mark.parametrize(
    "changes", [{"email": ""}, {"email": "bob"}, {"username": "alice"}, {"role": "operator"}], ids=str
)
def test_the_workspaces_form_is_as_strict(alice, changes):
    browser = Client()
    log_in(browser, "/t/acme/")

    assert browser.post("/t/acme/accounts/user/invite/", BOB | changes).status_code == 200
    assert new_mails() == []


def test_the_workspaces_form_keeps_to_the_number_a_day_too(alice, monkeypatch):
    monkeypatch.setattr(links, "INVITATIONS_A_DAY", 0)
    browser = Client()
    log_in(browser, "/t/acme/")

    assert "wait until tomorrow" in browser.post("/t/acme/accounts/user/invite/", BOB).content.decode()
    with tenant_context("acme"):
        assert not get_user_model().objects.filter(username="bob").exists()


def test_the_workspace_does_not_let_an_invited_account_in_either(bob, alice):
    browser = Client()
    log_in(browser, "/t/acme/")
    body = {"username": "bob", "role": "reader", "email": "bob@acme.example", "is_active": "on", "version": "1"}

    assert browser.post(f"/t/acme/accounts/user/{bob['id']}/change/", body).status_code == 302
    assert (user().role, user().is_active) == ("reader", False)


def test_what_becomes_of_an_invitation_stands_in_the_audit_and_no_secret_of_it(bob, code, alice_api, alice):
    alice_api.delete(invitation_of(bob))
    alice_api.delete(invitation_of(bob))
    alice_api.post(invitation_of(bob))
    (mail,) = new_mails()
    assert is_chosen(choose(code_in(mail)))
    with tenant_context("acme"):
        of_links = ("invited", "invitation_withdrawn", "password_chosen")
        events = list(AuditEvent.objects.filter(action__in=of_links).order_by("number"))
        everything = str([event.changes for event in AuditEvent.objects.all()])

    assert [(event.action, event.actor) for event in events] == [
        ("invited", "alice"), ("invitation_withdrawn", "alice"), ("invited", "alice"), ("password_chosen", "bob"),
    ]  # fmt: skip
    assert {event.object_id for event in events} == {bob["id"]}
    assert code_in(mail).split("-", 1)[1] not in everything and user().password not in everything


def test_an_inviter_who_is_gone_is_not_named(bob, alice):
    with tenant_context("acme"):
        MailLink.objects.update(invited_by=None)

    assert "An owner invites you to Acme" in new_mails()[0].get_content()


def test_an_invited_account_is_changed_otherwise(bob, alice_api):
    answer = patch(alice_api, f"{USERS}{bob['id']}/", role="reader", is_active=False)

    assert (answer.status_code, answer.json()["role"], user().is_active) == (200, "reader", False)
