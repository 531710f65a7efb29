"""What a password may be, and that it is taken as it was typed."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from tenants.context import control_plane, tenant_context
from tenants.services import create_tenant
from tests.tenants.browsing import log_in

LONG = "plain words and nothing else, " * 5
FINE = {
    "twelve letters": "qzjvkwxmbthn",
    "twelve digits": "840271936502",
    "spaces": "three little words here",
    "another alphabet": "длинныйпароль",
    "signs alone": "%&$§!?)(/=#+",
    "what the eye takes for one": "🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊",
    "64 characters": LONG[:64],
    "128 characters": LONG[:128],
    "spaces at both ends": "  spaces at both ends  ",
}


def codes(password):
    try:
        validate_password(password)
    except ValidationError as error:
        return {each.code for each in error.error_list}
    return set()


def test_a_password_has_twelve_characters_at_least():
    assert codes("qzjvkwxmbth") == {"password_too_short"}
    assert codes("qzjvkwxmbthn") == set()


@pytest.mark.parametrize("password", ["password1234", "qwerty123456", "111222tianya", "1q2w3e4r5t6y"])
def test_what_many_people_take_is_refused(password):
    assert codes(password) == {"password_too_common"}


@pytest.mark.parametrize(
    "password", ["Bulkhead2026!", "bulkheadscanner", "Pentest-1234", "Acme-Acme-123", "AcMe-42-aCmE!"]
)
def test_what_is_made_of_names_of_this_place_is_refused(acme, password):
    with tenant_context(acme):
        assert codes(password) == {"password_of_this_place"}


def test_such_a_name_may_stand_beside_other_words_and_elsewhere(acme, globex):
    for slug in ("acme", "globex"):
        with tenant_context(slug):
            assert codes("bulkhead of three ships") == set()
            assert codes("acme and eight more") == set()
    with tenant_context("globex"):
        assert codes("Acme-Acme-123") == set()
    with control_plane():
        assert codes("Acme-Acme-123") == set()
        assert codes("Bulkhead2026!") == {"password_of_this_place"}


@pytest.mark.parametrize("password", FINE.values(), ids=FINE.keys())
def test_a_password_is_of_any_characters_and_taken_as_it_was_typed(acme, alice, password):
    assert codes(password) == set()
    with tenant_context(acme):
        alice.set_password(password)
        alice.save()

    wrong = [password + " ", password[:-1], password.swapcase() + "x", password[:72] + "y" * 56]
    for typed in [each for each in wrong if each != password][:2]:
        assert log_in(Client(), "/t/acme/", password=typed).status_code == 200
    assert log_in(Client(), "/t/acme/", password=password).status_code == 302
    credentials = {"tenant": "acme", "username": "alice", "password": password}
    assert Client().post("/api/v1/token/", credentials, "application/json").status_code == 200


def test_a_password_is_good_however_old_it_is(acme, alice):
    with tenant_context(acme):
        get_user_model().objects.filter(pk=alice.pk).update(
            date_joined=timezone.now() - timezone.timedelta(days=4000),
            last_login=timezone.now() - timezone.timedelta(days=4000),
        )

    assert log_in(Client(), "/t/acme/")["Location"] == "/t/acme/"


def test_fields_for_passwords_hide_what_is_typed_and_let_managers_and_pasting_work(acme, tom):
    browser = Client()
    log_in(browser, "/t/acme/")
    pages = [Client().get("/t/acme/login/"), browser.get("/t/acme/password_change/")]
    pages += [browser.get("/t/acme/accounts/user/add/"), browser.get(f"/t/acme/accounts/user/{tom.pk}/password/")]

    for page in pages:
        fields = re.findall(r"<input[^>]*name=\"[^\"]*password[^\"]*\"[^>]*>", page.content.decode())
        fields = [field for field in fields if "usable_password" not in field and "submit" not in field]
        assert fields
        assert [field for field in fields if 'type="password"' not in field] == []
        assert not re.search(r'autocomplete="off"|onpaste|maxlength', "".join(fields))


def test_nobody_has_an_account_that_nobody_made(installation):
    create_tenant(slug="newcorp", name="Newcorp")

    with tenant_context("newcorp"):
        assert not get_user_model().objects.exists()
    for name in ("admin", "root", "bulkhead", "newcorp"):
        assert log_in(Client(), "/t/newcorp/", username=name, password=name).status_code == 200
