"""
Support access: an operator asks for it with a reason, an owner of the tenant grants it, and it ends.

All of it stands in the tenant's database. An operator who was granted access acts there as a row of their own,
``support:<name>``, which no password, token or key opens: it is active, and has a role, only in the requests of a
session that was entered by such an access, and only while that stands. docs/adr/0018-support-access.md has the reasons.
"""

import hashlib
import logging
import secrets
from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants.accounts.models import SupportAccess, User
from tenants.audit.trail import record
from tenants.exceptions import SupportAccessError
from tenants.planes import require_bound

logger = logging.getLogger(__name__)

PREFIX = "support:"  # which no member's name can begin with: a colon is none of theirs
LONGEST_NAME = 64
SCOPES = SupportAccess.Scope
ENDING = SupportAccess.Ending
ROLES: dict[str, str] = {SCOPES.READ: "support", SCOPES.FULL: "support-full"}  # no account is given these
HOURS = 8
WORDS = 3
REQUEST_LIFETIME = timedelta(days=7)
REQUESTS_A_DAY = 5  # of one operator in one tenant
ENTRY_LIFETIME = timedelta(seconds=60)


def ask(operator: User, *, reason: str, scope: str, hours: int) -> SupportAccess:
    """
    In the bound tenant; ``operator`` is a row of control, of which only plain values are read here.

    Raises ``SupportAccessError``, whose text is for the operator.
    """
    if len(reason.split()) < WORDS:
        raise SupportAccessError(f"Say why, in {WORDS} words at least: an owner of the tenant is to judge it.")
    if not 1 <= hours <= HOURS:
        raise SupportAccessError(f"From 1 to {HOURS} hours can be asked for.")
    with transaction.atomic():
        user, now = _row_of(operator), timezone.now()
        open_accesses()
        if user.support_accesses.filter(asked_at__gt=now - timedelta(days=1)).count() >= REQUESTS_A_DAY:
            raise SupportAccessError(f"You have asked this tenant {REQUESTS_A_DAY} times within a day.")
        try:
            return SupportAccess.objects.create(
                user=user,
                database=require_bound().alias,
                reason=reason,
                scope_asked=scope,
                hours_asked=hours,
                asked_at=now,
                expires_at=now + REQUEST_LIFETIME,
            )
        except IntegrityError:
            raise SupportAccessError("A request of yours is open in this tenant, or access is granted.") from None


def grant(access: SupportAccess, *, owner: User, scope: str, hours: int) -> None:
    """Raises ``SupportAccessError`` when it is no longer asked for, or not as much."""
    now = timezone.now()
    if not 1 <= hours <= HOURS or (scope == SCOPES.FULL and access.scope_asked != SCOPES.FULL):
        raise SupportAccessError("More than was asked for, or can be, cannot be granted.")
    changes = {"granted_by": owner.pk, "granted_at": now, "scope": scope, "expires_at": now + timedelta(hours=hours)}
    if not _open().filter(pk=access.pk, granted_at=None, expires_at__gt=now).update(**changes):
        raise SupportAccessError("It is not asked for any more.")


def refuse(access: SupportAccess, *, owner: User) -> None:
    """Raises ``SupportAccessError`` when it is no longer asked for."""
    _end(_open().filter(pk=access.pk, granted_at=None), owner, ENDING.REFUSED)


def end(access: SupportAccess, *, owner: User) -> None:
    """From the next request on. Raises ``SupportAccessError`` when it does not stand."""
    _end(_open().filter(pk=access.pk, granted_at__isnull=False), owner, ENDING.ENDED)


def withdraw(operator_id) -> None:
    """What the operator has asked for, or was granted. Raises ``SupportAccessError`` when there is nothing."""
    user = User.objects.filter(operator=operator_id).first()
    _end(_open().filter(user__operator=operator_id), user, ENDING.WITHDRAWN)


def open_accesses() -> list[SupportAccess]:
    """Here and now: asked for or granted, and not over. Notes those whose time has come."""
    now, found = timezone.now(), []
    for access in _open().select_related("user", "granted_by"):
        if access.expires_at > now:
            found.append(access)
        elif _open().filter(pk=access.pk).update(is_open=None, ended_at=access.expires_at, ending=ENDING.EXPIRED):
            logger.info("The support access %s of %s has expired", access.pk, access.user.username)
    return found


def granted_accesses() -> list[SupportAccess]:
    """What every page of the workspace tells."""
    return [access for access in open_accesses() if access.granted_at]


def make_entry(operator_id) -> str | None:
    """What opens a session in the bound tenant, once and at once; ``None`` when the operator has no access there."""
    token, now = secrets.token_urlsafe(32), timezone.now()
    changes = {"entry_digest": _digest(token), "entry_expires_at": now + ENTRY_LIFETIME}
    return token if _standing().filter(user__operator=operator_id).update(**changes) else None


def enter(token: str) -> User | None:
    """Who acts from now on, in the caller's transaction. By conditional update: of several uses one succeeds."""
    entry = _standing().filter(entry_digest=_digest(token), entry_expires_at__gt=timezone.now())
    access = entry.select_related("user").first()
    if access is None or not entry.filter(pk=access.pk).update(entry_digest="", entry_expires_at=None):
        return None
    user = _acting(access)
    record("support_entered", access, actor=user)
    return user


def supporter(user_id) -> User | None:
    """Who acts by an access that stands, for one request. Asked for each, so that an end is heard of at once."""
    access = _standing().filter(user=user_id).select_related("user").first()
    return None if access is None else _acting(access)


def _acting(access: SupportAccess) -> User:
    user = access.user
    user.is_active, user.role = True, ROLES[access.scope]
    user.password = f"!{access.pk}"  # unusable; and what a session's hash is made of: the next access opens others
    return user


def _open():
    """In a restored or cloned database what was open in the original is not."""
    return SupportAccess.objects.filter(database=require_bound().alias, is_open=True)


def _standing():
    """Of operators who are not disabled: as the registry knew it when this tenant was bound."""
    operators = require_bound().operators
    return _open().filter(granted_at__isnull=False, expires_at__gt=timezone.now(), user__operator__in=operators)


def _end(accesses, by: User | None, ending: str) -> None:
    changes = {"is_open": None, "ended_at": timezone.now(), "ended_by": by and by.pk, "ending": ending}
    if not accesses.filter(expires_at__gt=timezone.now()).update(**changes):
        raise SupportAccessError("There is nothing to end: it has been decided, or has ended.")


def _row_of(operator: User) -> User:
    username = PREFIX + operator.username
    if len(username) > LONGEST_NAME:
        raise SupportAccessError(f"The name {operator.username} is too long to be shown in a tenant.")
    row = {"username": username, "is_active": False, "role": User.Role.READER, "password": make_password(None)}
    try:
        user, _ = User.objects.get_or_create(operator=operator.pk, defaults=row)
        if user.username != username:
            user.username = username
            user.save(update_fields=["username"])
    except IntegrityError:
        raise SupportAccessError(f"In this tenant {username} has been another operator.") from None
    return user


def _digest(token: str) -> str:
    return hashlib.sha256(f"{token} {require_bound().alias}".encode("utf-8", "surrogatepass")).hexdigest()
