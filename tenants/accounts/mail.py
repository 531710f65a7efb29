"""What the mails say. Plain text, and links that lead to where the installation says it is, whatever a request said."""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.utils.module_loading import import_string

from tenants.accounts.models import MailLink
from tenants.context import current_tenant

RESET = """\
Somebody, probably you, has asked for a new password for the account {username} of {tenant}.

Choose it here, within an hour of having asked:

{url}

The link works once, and the newest one only. If you did not ask for it, ignore this mail: nothing has changed.
"""
INVITATION = """\
{inviter} invites you to {tenant}, as {role}. Your user name is {username}.

Choose a password here, within three days:

{url}

The link works once, and the newest one only. If you do not know {inviter}, ignore this mail.
"""
SUBJECTS = {
    MailLink.Purpose.RESET: "Choose a new password for {tenant}",
    MailLink.Purpose.INVITATION: "You are invited to {tenant}",
}
TEXTS = {MailLink.Purpose.RESET: RESET, MailLink.Purpose.INVITATION: INVITATION}


def send(link: Any, code: str) -> None:
    """Raises ``ValidationError`` for an address that is none, and what the mail server's client raises."""
    validate_email(link.user.email)
    tenant = current_tenant()
    words = {
        "tenant": " ".join(tenant.name.split()),  # a line of its own would be a header's, or a mail's within the mail
        "username": link.user.username,
        "role": link.user.role,
        "inviter": link.invited_by.username if link.invited_by else "An owner",
        "url": f"{settings.BULKHEAD_PUBLIC_URL}/t/{tenant.slug}/password/set/#{code}",
    }
    message = EmailMessage(
        SUBJECTS[link.purpose].format(**words),
        TEXTS[link.purpose].format(**words),
        settings.DEFAULT_FROM_EMAIL,
        [link.user.email],
        headers={"Auto-Submitted": "auto-generated"},  # nobody's holiday is an answer to it
    )
    mailer = settings.MAILERS["default"]
    import_string(mailer["BACKEND"])(**mailer.get("OPTIONS", {})).send_messages([message])
