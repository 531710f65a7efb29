"""A member's side of the mails: asking for one, reading it, using its link."""

import re
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import F
from django.test import Client

from tenants.accounts.links import find_link
from tenants.accounts.models import MailLink
from tenants.accounts.sending import sweep
from tenants.context import tenant_context
from tenants.exceptions import InvalidLinkError

NEW = "seven purple elephants"


def ask(slug="acme", username="alice", address="192.0.2.1", **headers):
    return Client().post(f"/t/{slug}/password/reset/", {"username": username}, REMOTE_ADDR=address, headers=headers)


def choose(code, slug="acme", password=NEW, again=None, client=None):
    body = {"code": code, "password1": password, "password2": again or password}
    return (client or Client()).post(f"/t/{slug}/password/set/", body)


def is_chosen(answer):
    assert answer.status_code == 200
    refused, chosen = (text in answer.content.decode() for text in ("opens nothing", "Your password is set"))
    assert not (refused and chosen)
    return chosen


def mails():
    """Those that were sent, as files, oldest first."""
    paths = sorted((Path(settings.BULKHEAD_HOME) / "mail").glob("*.eml"))
    return [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]


def new_mails():
    """What is due is sent, and read."""
    before = len(mails())
    sweep()
    return mails()[before:]


def code_in(mail):
    (code,) = re.findall(r"#(\S+)", mail.get_content())
    return code


def reset_code(slug="acme", username="alice"):
    assert ask(slug, username).status_code == 200
    (mail,) = new_mails()
    return code_in(mail)


def opens(code, slug="acme"):
    try:
        with tenant_context(slug):
            find_link(code)
    except InvalidLinkError:
        return False
    return True


def change(username, slug="acme", /, **changes):
    with tenant_context(slug):
        assert get_user_model().objects.filter(username=username).update(**changes)


def patch(api, account_path, **changes):
    """With the version that the account has now."""
    version = api.get(account_path).json().get("version", 1)
    return api.patch(account_path, changes | {"version": version}, format="json")


def let_pass(slug="acme", **time):
    """As if so much time had passed since for every link."""
    gone = timedelta(**time)
    moments = ("created_at", "expires_at", "next_try_at", "sent_at", "made_at")
    with tenant_context(slug):
        MailLink.objects.update(**{name: F(name) - gone for name in moments})


def empty_mailbox():
    for path in (Path(settings.BULKHEAD_HOME) / "mail").glob("*"):
        path.unlink()
