"""
Links that are sent by mail: with one an invited member chooses a password, or a member another one.

A link is ``<its row>-<256 random bits>``. The row has a digest, made with the tenant's keys and what the account is at
that moment: so a link opens nothing in another tenant or another generation of the database, nor once the account has
another password or address. docs/adr/0016-accounts-by-mail.md has the reasons.
"""

import hmac
import re
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from tenants.accounts.models import MailLink, User
from tenants.accounts.tries import count_reset
from tenants.audit.trail import lock_head, record
from tenants.context import control_plane, current_record, current_tenant
from tenants.exceptions import InvalidLinkError, InvitationPendingError, NotInvitedError, TooManyMailsError
from tenants.planes import current
from tenants.secrets import Secret, seal, unseal
from tenants.wakeup import wake

KEY = "bulkhead:tenants-with-mail"
NO_TENANT = UUID(int=0)  # what is asked for at tenants that are not there
CODE = re.compile(r"([0-9a-f]{32})-[A-Za-z0-9_-]{43}")
LIFETIMES = {MailLink.Purpose.RESET: timedelta(hours=1), MailLink.Purpose.INVITATION: timedelta(days=3)}
RESET_EVERY = timedelta(minutes=5)  # whoever asks in somebody's name neither floods them nor ends the link they have
INVITATIONS_A_DAY = 100  # to addresses that a tenant's owners think of
WAITING = 1000  # resets that nobody has looked at yet
AT_ONCE = 100  # that are removed


def ask_for_reset(request, username: str) -> None:
    """
    In the bound tenant, or where nothing is bound, as for a tenant that does not exist: the same is done for any name.
    Whether there is such a member is looked up by who sends the mail. Raises ``TooManyTriesError``.
    """
    if current() is not None:
        count_reset(request, username)
        _write_down(username, current_tenant().id)
    else:
        with control_plane():
            count_reset(request, username, unknown_tenant=request.asked_tenant)
            _write_down(username, NO_TENANT)


def _write_down(username: str, whose: UUID) -> None:
    waiting = MailLink.objects.filter(user=None)
    if waiting.count() >= WAITING:
        waiting.filter(pk__in=list(waiting.order_by("pk").values_list("pk", flat=True)[:AT_ONCE])).delete()
    name = seal(username, key="runtime", tenant=whose, field="reset_name", version=1)
    MailLink.objects.create(
        purpose=MailLink.Purpose.RESET,
        sealed_name=name,
        expires_at=timezone.now() + LIFETIMES[MailLink.Purpose.RESET],
    )
    wake(KEY, whose)


def invite(*, username: str, email: str, role: str, invited_by) -> User:
    """An account that is not in use before its link is. Raises ``TooManyMailsError``."""
    user = User(username=username, email=email, role=role, is_active=False, is_invited=True)
    user.set_unusable_password()
    with transaction.atomic():
        user.save(force_insert=True)
        send_invitation(user, invited_by)
    return user


def send_invitation(user: User, invited_by) -> MailLink:
    """Once more, too: an earlier link ends. Raises ``NotInvitedError`` and ``TooManyMailsError``."""
    with transaction.atomic():
        _require_invited(user)
        now, invitations = timezone.now(), MailLink.objects.filter(purpose=MailLink.Purpose.INVITATION)
        if invitations.filter(created_at__gt=now - timedelta(days=1)).count() >= INVITATIONS_A_DAY:
            raise TooManyMailsError(f"{INVITATIONS_A_DAY} invitations were sent within a day.")
        invitations.filter(user=user).end(MailLink.Ending.REPLACED)
        link = MailLink.objects.create(
            purpose=MailLink.Purpose.INVITATION,
            user=user,
            invited_by_id=invited_by.pk,
            expires_at=now + LIFETIMES[MailLink.Purpose.INVITATION],
        )
        record("invited", user, email=user.email, role=user.role)
    tenant_id = current_tenant().id
    transaction.on_commit(lambda: wake(KEY, tenant_id))
    return link


def withdraw_invitation(user: User) -> None:
    """The account stays, and nobody can use it. Again changes nothing. Raises ``NotInvitedError``."""
    with transaction.atomic():
        _require_invited(user)
        if MailLink.objects.filter(user=user).end(MailLink.Ending.WITHDRAWN):
            record("invitation_withdrawn", user)


def require_may_be_active(user: User, is_active: bool) -> None:
    """Raises ``InvitationPendingError``: who has chosen no password cannot be let in by somebody else."""
    if user.is_invited and is_active:
        raise InvitationPendingError(f"{user.username} has not accepted the invitation.")


def _require_invited(user: User) -> None:
    lock_head()
    if not User.objects.select_for_update().filter(pk=user.pk, is_invited=True).exists():
        raise NotInvitedError(f"{user.username} is not invited.")


def name_of(link: MailLink) -> Secret:
    """Whom a reset was asked for. Raises ``SecretError`` for a row of another tenant's."""
    return unseal(link.sealed_name, key="runtime", tenant=current_tenant().id, field="reset_name", version=1)


def make_code(link: MailLink) -> Secret | None:
    """What the mail brings, kept nowhere; an earlier one ends. None, once the link has ended or another claimed it."""
    code = Secret(f"{link.pk.hex}-{secrets.token_urlsafe(32)}")
    made_at, digest = timezone.now(), _digest(link, code, current_record().signing_number)
    made = claimed(link).update(user=link.user, sealed_name="", digest=digest, made_at=made_at)
    return code if made else None


def find_link(code: str) -> Any:
    """The ``MailLink``, with its user. Raises ``InvalidLinkError``, which does not say why."""
    form = CODE.fullmatch(code)
    if form is None or current() is None or current_tenant().state != "active":
        raise InvalidLinkError("There is no such link here.")
    now = timezone.now()
    links = MailLink.objects.filter(pk=UUID(form[1]), ended_at=None, expires_at__gt=now).exclude(user=None)
    link = links.select_related("user").first()
    if link is None or not _opens(link) or not any(_digests_match(link, code)):
        raise InvalidLinkError("The link opens nothing.")
    return link


def choose_password(code: str, password: str) -> User:
    """
    Of uses in parallel one succeeds. It ends all other links, sessions and log-ins of the member, whom it does not log
    in. The password is validated before. Raises ``InvalidLinkError``.
    """
    user_id = find_link(code).user_id
    hashed = make_password(password)  # outside the transaction: it takes its time
    with transaction.atomic():
        lock_head()
        User.objects.select_for_update().get(pk=user_id)
        link = find_link(code)  # and nobody else uses it meanwhile, or changes the account
        user = link.user
        MailLink.objects.filter(pk=link.pk).end(MailLink.Ending.USED)
        MailLink.objects.filter(user=user).end(MailLink.Ending.REPLACED)
        user.password, changed = hashed, ["password"]
        if user.is_invited:
            user.is_invited, user.is_active = False, True
            changed += ["is_invited", "is_active"]
        user.save(update_fields=changed)
        record("password_chosen", user, actor=user, by=link.purpose)
    return user


def _opens(link: Any) -> bool:
    if link.purpose == MailLink.Purpose.INVITATION:
        return link.user.is_invited
    return may_reset(link.user)


def may_reset(user: User) -> bool:
    """Who has no password logs in by other means, or not yet."""
    return user.is_active and not user.is_invited and user.has_usable_password()


def _digests_match(link: MailLink, code: str):
    # A key that signs no longer has made links that are open still; in an emergency it is gone, and they with it.
    for number in current_record().sealed_keys:
        yield hmac.compare_digest(link.digest, _digest(link, code, number))


def _digest(link: Any, code: str, number: int) -> str:
    key = current_record().derived_key(number, "link")
    of_the_account = (link.purpose, link.user.pk.hex, link.user.password, link.user.email)
    return hmac.digest(key, "\0".join((code, *of_the_account)).encode(), "sha256").hex()


def claim(link: MailLink) -> bool:
    """Of several senders one gets it; the others, and itself after a failure, have to wait, each time for longer."""
    now = timezone.now()
    due = MailLink.objects.filter(pk=link.pk, ended_at=None, tries=link.tries, next_try_at__lte=now)
    later = now + timedelta(minutes=min(2**link.tries, 60))
    if not due.update(tries=F("tries") + 1, next_try_at=later):
        return False
    link.tries += 1
    return True


def claimed(link: MailLink):
    """The link, for as long as it has not ended and this sender is the last that has claimed it."""
    return MailLink.objects.filter(pk=link.pk, ended_at=None, tries=link.tries)
