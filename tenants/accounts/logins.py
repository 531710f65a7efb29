"""
Log-ins: opened with a password, renewed by refresh tokens that work once, ended at any time.

Whether a log-in still stands is asked for every request. Unsafe ones ask the database. The others ask what this process
read of the tenant within the last second: two short SELECTs a second at most, however many requests there are.
"""

import logging
import time
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from tenants.accounts.models import Login
from tenants.audit.trail import lock_head, record
from tenants.exceptions import InvalidTokenError
from tenants.kept import RecentlyUsed
from tenants.planes import here

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
TENANTS = 1024  # whose members' roles are kept, some 100 bytes each
CLOCK_SKEW = timedelta(seconds=60)  # between the machines that end log-ins and those that hear of it


class Standing(NamedTuple):
    read_at: float
    roles: dict[UUID, str]  # of every account that is not disabled
    ended: frozenset[UUID]  # log-ins of which access tokens may still be valid


class _Kept:
    standing = Standing(-1e9, {}, frozenset())


_kept = RecentlyUsed(TENANTS)


def open_login(user) -> Login:
    """And forgets those of the same member that have expired."""
    user.logins.filter(expires_at__lt=timezone.now() - CLOCK_SKEW).delete()
    record("logged_in", user, actor=user)
    return Login.objects.create(user=user)


def renew(claims: dict) -> Login:
    """
    By conditional update, so that of several uses of one refresh token one succeeds. Every other one ends the log-in:
    the token was stolen, or the answer to its first use was. Nothing tells a client that refreshes twice from a thief.

    Raises ``InvalidTokenError``. Call it where that does not roll the end back.
    """
    now = timezone.now()
    login = Login.objects.filter(pk=claims["login"], user=claims["sub"], ended_at=None, expires_at__gt=now)
    if login.filter(generation=claims["generation"]).update(generation=F("generation") + 1):
        renewed = Login.objects.select_related("user").get(pk=claims["login"])
        if renewed.user.is_active:
            return renewed
    elif login.end(Login.Ending.REUSED):
        record(
            "log_in_ended", get_user_model().objects.get(pk=claims["sub"]), reason="its refresh token was used again"
        )
        logger.warning("A refresh token of log-in %s was used again: the log-in is ended", claims["login"])
    raise InvalidTokenError("The log-in has ended.")


def log_out(claims: dict, everywhere: bool) -> None:
    """Raises ``InvalidTokenError`` when that log-in has ended: what is left of it ends no other."""
    mine = Login.objects.filter(user=claims["sub"])
    with transaction.atomic():
        lock_head()  # before the log-ins, as whoever changes an account and ends them with it
        if not mine.filter(pk=claims["login"]).end(Login.Ending.LOGGED_OUT):
            raise InvalidTokenError("The log-in has ended.")
        user = get_user_model().objects.get(pk=claims["sub"])
        record("logged_out", user, actor=user, everywhere=everywhere)
        if everywhere:
            mine.end(Login.Ending.LOGGED_OUT)


def require_standing(claims: dict, at_once: bool) -> str:
    """The member's role now. Raises ``InvalidTokenError`` when their log-in has ended, or their account."""
    login, user = UUID(claims["login"]), UUID(claims["sub"])
    role = None
    if not at_once:
        standing = _recent()
        role = None if login in standing.ended else standing.roles.get(user)
    if role is None:  # also for an account that is newer than what was read
        stands = Login.objects.filter(pk=login, user=user, ended_at=None, user__is_active=True)
        role = stands.values_list("user__role", flat=True).first()
    if role is None:
        raise InvalidTokenError("The log-in has ended, or its account is gone or disabled.")
    return role


def forget() -> None:
    _kept.clear()


def _recent() -> Standing:
    kept = _kept.setdefault(here(), _Kept())
    if time.monotonic() - kept.standing.read_at >= FRESH_SECONDS:
        read_at = time.monotonic()
        roles = dict(get_user_model().objects.filter(is_active=True).values_list("pk", "role"))
        since = timezone.now() - api_settings.ACCESS_TOKEN_LIFETIME - CLOCK_SKEW
        ended = frozenset(Login.objects.filter(ended_at__gt=since).values_list("pk", flat=True))
        kept.standing = Standing(read_at, roles, ended)
    return kept.standing
