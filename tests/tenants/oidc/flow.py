"""Both ends of a log-in by a provider: the workspace's pages, and a browser that goes between them."""

import html
import re
from urllib.parse import parse_qs, urlsplit

from django.contrib.auth import get_user_model

from tenants.accounts import oidc
from tenants.accounts.models import ExternalIdentity, IdentityProvider
from tenants.context import tenant_context
from tests.tenants.oidc.hostile_provider import CLIENT_ID, CLIENT_SECRET


def configure(provider, slug="acme", **fields):
    with tenant_context(slug):
        IdentityProvider.objects.all().delete()
        IdentityProvider.objects.create(
            **{
                "is_active": True, "issuer": provider.issuer, "client_id": CLIENT_ID,
                "sealed_client_secret": oidc.seal_secret(CLIENT_SECRET), "endpoints": oidc.discover(provider.issuer),
                "allowed_domains": "acme.example", "makes_members": True, "role": "tester",
            }
            | fields
        )  # fmt: skip


def begin(browser, slug="acme"):
    """What the browser takes to the provider."""
    return {name: value for name, (value,) in parse_qs(urlsplit(led_to(browser, slug)).query).items()}


def led_to(browser, slug="acme", **form):
    """Where the page leads that the log-in page's form asks for: at once, and by its link."""
    page = browser.post(f"/t/{slug}/oidc/login/", form).content.decode()
    (at_once,) = re.findall(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', page)
    (link,) = re.findall(r'<a id="to-provider" href="([^"]+)">', page)
    assert at_once == link
    return html.unescape(link)


def come_back(browser, slug="acme", **parameters):
    return browser.get(f"/t/{slug}/oidc/callback/", parameters)


def log_in(browser, provider, slug="acme"):
    """By a provider that signs what it is asked for."""
    asked = begin(browser, slug)
    provider.nonce = asked["nonce"]
    return come_back(browser, slug, code="c", state=asked["state"])


def is_refused(answer):
    return (answer.status_code, b"did not log you in here" in answer.content) == (403, True)


def member_of(browser, slug="acme"):
    """Who is logged in, if anybody."""
    key = browser.cookies.get(f"sessionid_{slug}")
    with tenant_context(slug):
        from django.contrib.sessions.models import Session

        session = Session.objects.filter(session_key=key.value).first() if key else None
        pk = session.get_decoded().get("_auth_user_id") if session else None
        return get_user_model().objects.get(pk=pk).username if pk else None


def waiting_account(email="ann@acme.example", slug="acme", **fields):
    with tenant_context(slug):
        return get_user_model().objects.create_user(fields.pop("username", "ann"), None, email=email, **fields)


def identities(slug="acme"):
    with tenant_context(slug):
        return list(ExternalIdentity.objects.values_list("user__username", "subject"))
