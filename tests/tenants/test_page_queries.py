"""A list of rows is filtered by what its page offers; any other column, lookup or key is refused, and never a 500."""

import pytest

from tenants.accounts.lists import OfferedAlone
from tenants.accounts.sites import workspace_site
from tenants.admin import operator_site
from tests.scans.test_admin import log_in

OFFERED = [
    "accounts/user/?role__exact=owner", "accounts/user/?is_active__exact=1", "accounts/user/?is_active__isnull=True",
    "accounts/user/?q=alice&o=1", "audit/auditevent/?action=created", "scans/scan/?state__exact=queued",
    "scans/scan/?target__id__exact=00000000-0000-0000-0000-000000000000",
]  # fmt: skip
REFUSED = [
    "accounts/user/?password__startswith=a", "accounts/user/?api_keys__digest__startswith=a",
    "accounts/supportaccess/?entry_digest__startswith=a", "accounts/supportaccess/?user__password__startswith=a",
    "accounts/user/?email__iregex=[]", f"accounts/user/?date_joined__year={10**22}",
    "accounts/user/?role__in=owner", "audit/auditevent/?at__gte=9999-12-31T23:59:59-14:00",
    f"audit/auditevent/?number__in={10**22}", "scans/target/?ports__contains=[]",
    "scans/target/?until=9999-12-31T23:59:59-14:00", "scans/target/?authorizations__statement__startswith=S",
]  # fmt: skip


@pytest.fixture
def owner(alice):
    browser = log_in("acme", alice)
    browser.raise_request_exception = False
    return browser


@pytest.mark.parametrize("query", OFFERED)
def test_a_list_is_filtered_by_what_its_page_offers(owner, query):
    assert owner.get(f"/t/acme/{query}").status_code == 200


@pytest.mark.parametrize("query", REFUSED)
def test_a_list_is_filtered_by_nothing_else(owner, query):
    assert owner.get(f"/t/acme/{query}").status_code == 400


@pytest.mark.parametrize("action", ["remove_second_factor", "send_invitation", "withdraw_invitation"])
@pytest.mark.parametrize("key", ["x", "9" * 40])
def test_a_selection_that_is_no_key_is_a_malformed_request(owner, alice, action, key):
    body = {"action": action, "_selected_action": [str(alice.pk), key]}

    assert owner.post("/t/acme/accounts/user/", body).status_code == 400


def test_no_page_of_either_site_goes_without():
    pages = [*workspace_site._registry.values(), *operator_site._registry.values()]

    assert len(pages) > 10 and all(isinstance(page, OfferedAlone) for page in pages)
