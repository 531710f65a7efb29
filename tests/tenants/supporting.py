"""The way of a support access, as the people take it: each step through the door that they have."""

import re
from uuid import NAMESPACE_DNS, uuid5

from django.test import Client

from tenants.accounts import support
from tenants.accounts.models import SupportAccess, User
from tenants.context import control_plane, tenant_context
from tenants.services import find_tenant
from tests.installation import PASSWORD
from tests.tenants.browsing import log_in

API = "/api/v1/support-access/"
REASON = "Scan 41 hangs at 80 %"


def console_of(username="oscar") -> Client:
    browser = Client()
    assert log_in(browser, "/operator/", username).status_code == 302
    return browser


def page_of(slug="acme", step="") -> str:
    with control_plane():
        return f"/operator/tenants/tenant/{find_tenant(slug).pk}/support/{step}"


def wish(**changes):
    return {"reason": REASON, "scope": "read", "hours": 2} | changes


def ask(console, slug="acme", **changes):
    return console.post(page_of(slug), wish(**changes))


def grant(api, access, **changes):
    return api.post(f"{API}{access.pk}/grant/", {"scope": access.scope_asked, "hours": 1} | changes, format="json")


def asked_by(name, **changes) -> SupportAccess:
    """In the bound tenant, by an operator of that name, whom nobody needs to have."""
    operator = User(pk=uuid5(NAMESPACE_DNS, name), username=name)
    return support.ask(operator, **wish(**changes))


def newest(slug="acme") -> SupportAccess:
    with tenant_context(slug):
        return SupportAccess.objects.select_related("user").order_by("-id").first()


def entry_of(console, slug="acme") -> str | None:
    """What the console's page with the one button would send to the workspace; ``None`` where there is no such page."""
    answer = console.post(page_of(slug, "enter/"))
    found = re.search(r'name="entry" value="([\w-]+)"', answer.content.decode()) if answer.status_code == 200 else None
    return found and found[1]


def enter(entry, slug="acme", browser=None):
    browser = browser or Client()
    return browser, browser.post(f"/t/{slug}/support/enter/", {"entry": entry})


def entered(api, scope="read", console=None) -> Client:
    """A browser in which an operator is in acme's workspace."""
    console = console or console_of()
    assert ask(console, scope=scope).status_code == 302
    assert grant(api, newest()).status_code == 200
    browser, answer = enter(entry_of(console))
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/")
    return browser


def add_operator(username):
    with control_plane():
        return User.objects.create_user(username, PASSWORD)
