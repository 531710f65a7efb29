"""What the two sites show of accounts to whom, beside what the cells say."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tenants.context import control_plane, tenant_context
from tests.installation import PASSWORD
from tests.roles.table import ROLES
from tests.tenants.browsing import log_in


def add_people(slug):
    with tenant_context(slug):
        for role in ROLES:
            get_user_model().objects.create_user(f"a-{role}", PASSWORD, role=role)


@pytest.mark.parametrize("role", ["owner", "manager", "auditor"])
def test_of_passwords_who_may_only_look_at_accounts_sees_nothing(acme, tom, role):
    add_people("acme")
    browser = Client()
    log_in(browser, "/t/acme/", f"a-{role}")

    page = browser.get(f"/t/acme/accounts/user/{tom.pk}/change/").content.decode()

    assert "tom" in page
    assert ("argon2" in page, f"{tom.pk}/password/" in page or "../password/" in page) == (role == "owner",) * 2


@pytest.mark.parametrize("role", ROLES)
def test_who_has_an_account_in_control_is_an_operator_whatever_role_their_row_has(acme, role):
    with control_plane():
        get_user_model().objects.create_user("olga", PASSWORD, role=role)
    browser = Client()
    log_in(browser, "/operator/", "olga")
    passwords = {"password1": "a long enough secret", "password2": "a long enough secret", "usable_password": "true"}

    added = browser.post("/operator/accounts/user/add/", {"username": "omar", "role": "auditor"} | passwords)

    assert added.status_code == 302
    assert browser.get("/operator/tenants/tenant/").status_code == 200
    assert 'name="role"' not in browser.get(added["Location"]).content.decode()
    assert browser.get("/operator/scans/scan/").status_code == 404
    with control_plane():
        assert get_user_model().objects.get(username="omar").role != "auditor"


@pytest.mark.parametrize("role", ROLES)
def test_the_first_page_offers_what_may_be_seen(acme, role):
    add_people("acme")
    browser = Client()
    log_in(browser, "/t/acme/", f"a-{role}")

    page = browser.get("/t/acme/").content.decode()

    assert '/t/acme/scans/finding/"' in page
    assert ('/t/acme/accounts/user/"' in page) == (role in ("owner", "manager", "auditor"))
    assert ('/t/acme/accounts/user/add/"' in page) == (role == "owner")
    assert ('/t/acme/scans/target/add/"' in page) == (role in ("owner", "manager", "tester"))
    assert ('/t/acme/scans/authorization/"' in page) == (role != "reader")
