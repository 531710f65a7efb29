"""Two people, one row: through the API and in the workspace the second hears what the first has made of it."""

import html
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import Client

from config.api import STALE
from scans.models import Target
from tenants.accounts.models import User
from tenants.context import control_plane, tenant_context
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.scans.rows import make_target
from tests.scans.test_admin import log_in, target_form
from tests.tenants import browsing

EDITORS = 6


@pytest.fixture
def target(alice):
    with tenant_context("acme"):
        return make_target(alice)


@pytest.fixture
def path(target):
    return f"/api/v1/targets/{target.pk}/"


@pytest.fixture
def page(target):
    return f"/t/acme/scans/target/{target.pk}/change/"


def now(*names):
    with tenant_context("acme"):
        return Target.objects.values_list(*names).get()


def test_a_change_names_the_version_that_it_read_and_is_told_the_next(tom_api, path):
    first = tom_api.patch(path, {"version": tom_api.get(path).json()["version"], "name": "one"})
    second = tom_api.patch(path, {"version": first.json()["version"], "name": "two"})
    nothing = tom_api.patch(path, {"version": 3, "name": "two", "is_active": True})

    assert [(answer.status_code, answer.json()["version"]) for answer in (first, second, nothing)] == [
        (200, 2), (200, 3), (200, 3),
    ]  # fmt: skip
    assert now("name", "version") == ("two", 3)


@pytest.mark.parametrize("version", [..., None, 0, -1, "1", 1.0, True, [1], {"version": 1}, ""], ids=repr)
def test_a_change_that_names_no_version_is_not_valid(tom_api, path, version):
    body = {"name": "mine"} if version is ... else {"name": "mine", "version": version}

    answer = tom_api.patch(path, body)

    assert (answer.status_code, answer.json()["code"], list(answer.json()["errors"])) == (400, "invalid", ["version"])
    assert now("name", "version") == ("Web shop", 1)


def test_a_stale_change_is_told_both_values_of_what_differs_and_writes_nothing(tom_api, alice_api, path):
    alice_api.patch(path, {"version": 1, "name": "hers", "ca_pem": "", "is_active": False})

    answer = tom_api.patch(path, {"version": 1, "name": "his", "is_active": False, "ports": [8443]})

    assert answer.status_code == 409
    assert answer.json() == STALE | {
        "version": 2,
        "errors": {
            "name": {"yours": "his", "theirs": "hers"},
            "ports": {"yours": [8443], "theirs": [80, 443]},
        },
    }
    assert now("name", "ports", "is_active", "version") == ("hers", [80, 443], False, 2)
    again = tom_api.patch(path, {"version": answer.json()["version"], "ports": [8443]})
    assert (again.status_code, now("name", "ports")) == (200, ("hers", [8443]))


@pytest.mark.parametrize("version", [2, 7, 2**70])
def test_a_version_that_was_never_there_is_stale(tom_api, path, version):
    answer = tom_api.patch(path, {"version": version, "name": "mine"})

    assert (answer.status_code, answer.json()["code"], answer.json()["version"]) == (409, "stale", 1)
    assert now("name") == ("Web shop",)


def test_a_stale_change_that_is_not_valid_either_is_told_that_first(tom_api, path):
    assert tom_api.patch(path, {"version": 9, "ports": []}).status_code == 400


def test_a_change_leaves_what_it_does_not_name(tom_api, alice_api, path):
    alice_api.patch(path, {"version": 1, "is_active": False, "name": "hers"})
    tom_api.patch(path, {"version": 2, "ports": [1]})

    assert now("name", "is_active", "ports", "host") == ("hers", False, [1], "shop.example.com")


def test_a_target_that_was_deleted_is_missing_and_not_made_again(tom_api, path, target):
    with tenant_context("acme"):
        Target.objects.all().delete()

    assert tom_api.patch(path, {"version": 1, "name": "mine"}).status_code == 404
    with tenant_context("acme"):
        assert not Target.objects.exists()


def test_of_parallel_changes_to_one_version_one_is_made_and_the_others_are_told(tom, path):
    together = threading.Barrier(EDITORS, timeout=60)

    def edit(number):
        client = api_client("acme", tom)
        together.wait()
        answer = client.patch(path, {"version": 1, "name": f"editor {number}"})
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(EDITORS) as pool:
        answers = list(pool.map(edit, range(EDITORS)))

    assert sorted(status for status, _ in answers) == [200] + [409] * (EDITORS - 1)
    won = [status for status, _ in answers].index(200)
    for number, (status, body) in enumerate(answers):
        if status == 409:
            both = {"yours": f"editor {number}", "theirs": f"editor {won}"}
            assert (body["code"], body["version"], body["errors"]) == ("stale", 2, {"name": both})
    assert now("name", "version") == (f"editor {won}", 2)


def test_of_parallel_forms_of_one_version_one_is_saved_and_the_others_are_shown_again(tom, page):
    together = threading.Barrier(EDITORS, timeout=60)
    browsers = [log_in("acme", tom) for _ in range(EDITORS)]

    def save(number):
        together.wait()
        return browsers[number].post(page, target_form(name=f"editor {number}")).status_code

    with ThreadPoolExecutor(EDITORS) as pool:
        statuses = list(pool.map(save, range(EDITORS)))

    assert sorted(statuses) == [200] * (EDITORS - 1) + [302]
    assert now("name", "version") == (f"editor {statuses.index(302)}", 2)


def test_a_page_has_the_version_hidden_and_its_form_makes_the_next(tom, page):
    browser = log_in("acme", tom)

    assert '<input type="hidden" name="version" value="1"' in browser.get(page).content.decode()
    assert browser.post(page, target_form(name="one")).status_code == 302
    assert '<input type="hidden" name="version" value="2"' in browser.get(page).content.decode()
    assert now("name", "version") == ("one", 2)


def test_a_stale_form_is_shown_again_with_both_values_and_holds_when_it_is_sent_again(tom, tom_api, path, page):
    browser = log_in("acme", tom)
    tom_api.patch(path, {"version": 1, "name": "the API's", "is_active": True})

    answer = browser.post(page, target_form(name="the page's", is_active="on"))

    shown = html.unescape(answer.content.decode())
    assert answer.status_code == 200
    assert "Somebody else has changed this since you opened it: nothing is saved." in shown
    assert """Yours is "the page's", theirs is "the API's".""" in shown
    assert list(answer.context["adminform"].form.errors) == ["name", "ports", "__all__"]
    assert 'value="the page\'s"' in shown and '<input type="hidden" name="version" value="2"' in shown
    assert now("name", "version") == ("the API's", 2)
    assert browser.post(page, target_form(name="the page's", is_active="on", version="2")).status_code == 302
    assert now("name", "version") == ("the page's", 3)


@pytest.mark.parametrize("version", [..., "", "0", "x", "-1"])
def test_a_form_without_the_version_is_shown_again(tom, page, version):
    fields = target_form(name="mine", version=version)
    if version is ...:
        del fields["version"]

    answer = log_in("acme", tom).post(page, fields)

    assert list(answer.context["adminform"].form.errors) == ["version"]
    assert now("name", "version") == ("Web shop", 1)


def test_a_form_writes_the_columns_that_it_changed_alone(tom, page):
    browser = log_in("acme", tom)
    with tenant_context("acme"):
        Target._base_manager.update(created_at="2001-01-01T00:00:00Z", ca_pem="")

    browser.post(page, target_form(name="mine", host="shop.example.com", ports="[80, 443]"))

    with tenant_context("acme"):
        assert Target.objects.get().created_at.year == 2001


SITES = {"/t/acme/": lambda: tenant_context("acme"), "/operator/": control_plane}


@pytest.mark.parametrize("site", SITES)
def test_an_account_that_was_changed_meanwhile_is_not_written_over(acme, alice, site):
    browser = Client()
    browsing.log_in(browser, site)
    with SITES[site]():
        pk = User.objects.create_user("eve", email="eve@acme.example").pk
        User.objects.filter(pk=pk).update(email="theirs@acme.example", password="!theirs")  # noqa: S106
    form = {"username": "eve", "email": "mine@acme.example", "role": "tester", "is_active": "on", "version": "1"}

    answer = browser.post(f"{site}accounts/user/{pk}/change/", form)

    shown = html.unescape(answer.content.decode())
    assert "Yours is 'mine@acme.example', theirs is 'theirs@acme.example'." in shown
    assert "!theirs" not in shown
    with SITES[site]():
        assert User.objects.values_list("email", "version").get(pk=pk) == ("theirs@acme.example", 2)


def test_a_role_is_changed_on_the_page_of_the_account(alice, tom):
    browser, page = log_in("acme", alice), f"/t/acme/accounts/user/{tom.pk}/change/"
    form = {"username": "tom", "email": "", "role": "manager", "is_active": "on", "version": "1"}

    assert '<input type="hidden" name="version" value="1"' in browser.get(page).content.decode()
    assert browser.post(page, form).status_code == 302
    assert browser.post(page, form | {"role": "owner"}).status_code == 200
    disabled = {key: value for key, value in form.items() if key != "is_active"} | {"version": "2"}
    assert browser.post(page, disabled).status_code == 302

    with tenant_context("acme"):
        assert User.objects.values_list("role", "is_active", "version").get(pk=tom.pk) == ("manager", False, 3)


def test_a_password_is_set_on_the_page_of_the_account_whatever_was_changed_of_it(alice, tom):
    browser, page = log_in("acme", alice), f"/t/acme/accounts/user/{tom.pk}/password/"
    new = "another correct horse"
    with tenant_context("acme"):
        User.objects.filter(pk=tom.pk).update(email="tom@acme.example")

    answer = browser.post(page, {"password1": new, "password2": new, "usable_password": "true"})
    unusable = browser.post(page, {"password1": "", "password2": "", "usable_password": "false", "unset-password": ""})

    assert (answer.status_code, unusable.status_code) == (302, 302)
    with tenant_context("acme"):
        tom = User.objects.get(pk=tom.pk)
        assert (tom.email, tom.version, tom.has_usable_password()) == ("tom@acme.example", 2, False)


def test_who_may_only_look_is_shown_no_version(alice, target):
    with tenant_context("acme"):
        reader = User.objects.create_user("rita", PASSWORD, role="reader")

    page = log_in("acme", reader).get(f"/t/acme/scans/target/{target.pk}/change/").content.decode()

    assert "shop.example.com" in page and "ersion" not in page
