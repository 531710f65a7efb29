"""Every door that takes a new password holds it against ``AUTH_PASSWORD_VALIDATORS``."""

import io

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

from tenants.context import control_plane, tenant_context
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.tenants.browsing import log_in
from tests.tenants.mailing import change, choose, code_in, empty_mailbox, is_chosen, new_mails, reset_code

GOOD = "seven purple elephants"
WEAK = {"short": "Xk7#q", "common": "password1234", "like the name": "christopher1"}
NAME = "christopher"


def browser_of(site):
    browser = Client()
    log_in(browser, site)
    return browser


def twice(password):
    return {"password1": password, "password2": password, "usable_password": "true"}


def invitation(password):
    with tenant_context("acme"):
        alice = get_user_model().objects.get(username="alice")
    api_client("acme", alice).post(
        "/api/v1/users/", {"username": NAME, "email": "c@acme.example", "role": "tester"}, format="json"
    )
    (mail,) = new_mails()
    return is_chosen(choose(code_in(mail), password=password))


def reset(password):
    change("tom", username=NAME, email="c@acme.example")
    return is_chosen(choose(reset_code(username=NAME), password=password))


def changing(password):
    change("tom", username=NAME)
    browser = Client()
    log_in(browser, "/t/acme/", NAME)
    body = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
    return browser.post("/t/acme/password_change/", body).status_code == 302


def added_in_the_workspace(password):
    body = {"username": NAME, "role": "tester"} | twice(password)
    return browser_of("/t/acme/").post("/t/acme/accounts/user/add/", body).status_code == 302


def set_in_the_workspace(password):
    change("tom", username=NAME)
    with tenant_context("acme"):
        pk = get_user_model().objects.get(username=NAME).pk
    return browser_of("/t/acme/").post(f"/t/acme/accounts/user/{pk}/password/", twice(password)).status_code == 302


def added_in_the_console(password):
    body = {"username": NAME} | twice(password)
    return browser_of("/operator/").post("/operator/accounts/user/add/", body).status_code == 302


def changed_in_the_console(password):
    with control_plane():
        get_user_model().objects.filter(username="oscar").update(username=NAME)
    browser = Client()
    log_in(browser, "/operator/", NAME)
    body = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
    return browser.post("/operator/password_change/", body).status_code == 302


DOORS = {
    "an invitation": invitation,
    "a reset": reset,
    "a change": changing,
    "an account that an owner adds": added_in_the_workspace,
    "a password that an owner sets": set_in_the_workspace,
    "an operator that one adds": added_in_the_console,
    "an operator's change": changed_in_the_console,
}


@pytest.fixture(autouse=True)
def mailbox(acme):
    yield
    empty_mailbox()


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(("password", "is_taken"), [*((each, False) for each in WEAK.values()), (GOOD, True)], ids=str)
def test_a_new_password_is_held_against_the_policy(door, password, is_taken):
    assert door(password) == is_taken


@pytest.mark.parametrize("password", [*WEAK.values(), GOOD])
def test_create_member_does_so_too(monkeypatch, password):
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    with control_plane():
        if password == GOOD:
            call_command("create_member", "acme", NAME, password_stdin=True)
        else:
            with pytest.raises(CommandError):
                call_command("create_member", "acme", NAME, password_stdin=True)
    with tenant_context("acme"):
        assert get_user_model().objects.filter(username=NAME).exists() == (password == GOOD)


def test_no_operation_of_the_api_takes_a_new_password(alice, tom):
    before = tom.password
    api = api_client("acme", alice)
    api.patch(f"/api/v1/users/{tom.pk}/", {"password": GOOD, "new_password": GOOD, "version": 1}, format="json")
    api.post("/api/v1/users/", {"username": NAME, "email": "c@acme.example", "password": GOOD}, format="json")

    with tenant_context("acme"):
        assert get_user_model().objects.get(pk=tom.pk).password == before
        assert not get_user_model().objects.get(username=NAME).has_usable_password()
