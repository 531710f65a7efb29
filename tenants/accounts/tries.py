"""
Passwords that are tried, counted before they are looked at: per account and per address, in each plane by itself.

Of tries in parallel none gets past a limit, since none is hashed before its count is committed. What is asked of an
account or a tenant that does not exist is counted as if it did. docs/adr/0013-failed-log-ins.md has the reasons.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import NamedTuple

from django.db import models, transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone
from django.utils.crypto import salted_hmac

from tenants.accounts.addresses import address_of
from tenants.accounts.models import Tries
from tenants.exceptions import TooManyTriesError

logger = logging.getLogger(__name__)

PER_ACCOUNT = 5  # failures, after which each further try has to wait, the first as long as the first of
WAITS = [timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 240, 480, 900)]
REMEMBERED = timedelta(days=1)  # since an account's last try
PER_ADDRESS = 100  # failures, after which it waits for the end of
WINDOW = timedelta(minutes=15)
ROWS = 10_000  # of each kind
STEP_SECONDS = 0.05  # since the request began, and its multiples: when what failed is answered
AT_ONCE = 100  # that are removed
AT_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # and not now: a parallel try may have looked at the clock before


class _Count(NamedTuple):
    kind: Tries.Kind
    key: str
    is_of_account: bool

    @property
    def lifetime(self) -> timedelta:
        return REMEMBERED if self.is_of_account else WINDOW


def count_log_in(request, username: str, unknown_tenant: str | None = None) -> "Try":
    """
    For a log-in in the bound plane. ``unknown_tenant``: the control plane is bound, and counts for a tenant that it
    has not. Raises ``TooManyTriesError``, and ``RuntimeError`` inside a transaction, which could undo the count.
    """
    return _count(request, username, unknown_tenant, (Tries.Kind.ADDRESS, Tries.Kind.ACCOUNT))


def count_reset(request, username: str, unknown_tenant: str | None = None) -> "Try":
    """As ``count_log_in``, for a link that is asked for; of which none is taken back."""
    return _count(request, username, unknown_tenant, (Tries.Kind.RESET_FROM, Tries.Kind.RESET))


def count_nameless(request, unknown_tenant: str | None = None) -> "Try":
    """
    As ``count_log_in``, for what a browser brings back from an identity provider or an authenticator: there is no name
    yet, so by its address alone.
    """
    return _count(request, "", unknown_tenant, (Tries.Kind.ADDRESS,))


def _count(request, username: str, unknown_tenant: str | None, kinds: tuple[Tries.Kind, ...]) -> "Try":
    """``kinds``: of the address, and then of the account."""
    address, where = address_of(request), () if unknown_tenant is None else (unknown_tenant,)
    counts = []
    for kind, name, is_of_account in zip(kinds, (address, username), (False, True), strict=False):
        key = _key(str(kind), *where, name)
        counts.append(_Count(kind if unknown_tenant is None else Tries.Kind.UNKNOWN, key, is_of_account))
    try:
        return Try(counts, address)
    except TooManyTriesError:
        answer_in_step(request)
        raise


def count_old_password(request) -> "Try":
    """For whoever is logged in and says their password again: nobody else's failures keep them from it."""
    return Try([_old_password(request)], address_of(request))


def count_own_code(request, and_password: bool = False) -> "Try":
    """
    For whoever is logged in and says a code. It has a count of its own: who knows the password alone would otherwise
    say it elsewhere to have the failures forgotten.
    """
    key = _key("own code", request.user.get_username())
    code = _Count(Tries.Kind.OWN_CODE, key, is_of_account=True)
    return Try([_old_password(request), code] if and_password else [code], address_of(request))


def _old_password(request) -> _Count:
    key = _key("old password", request.user.get_username())
    return _Count(Tries.Kind.OLD_PASSWORD, key, is_of_account=True)


class Try:
    """One that is counted as failed until it ``succeeded()``."""

    def __init__(self, counts: list[_Count], address: str):
        self._counts = counts
        now = timezone.now()
        rows = {row.key: row for row in Tries.objects.filter(key__in=[count.key for count in counts])}
        for count in counts:
            row = rows.get(count.key)
            if row is None or row.expires_at <= now:
                _begin(count, now, is_new=row is None)
            elif row.allowed_at > now:
                _refuse(count, row.allowed_at - now, address)
        with transaction.atomic(durable=True):
            for count in counts:
                if not _add(count, now):
                    row = Tries.objects.filter(key=count.key).first()
                    _refuse(count, row.allowed_at - now if row else WAITS[0], address)

    def succeeded(self) -> None:
        """The account's failures are forgotten; of the address's, this try is taken back."""
        with transaction.atomic():
            for count in self._counts:
                row = Tries.objects.filter(key=count.key)
                if count.is_of_account:
                    row.update(failures=0, allowed_at=AT_ANY_TIME)
                else:
                    row.filter(failures__gt=0).update(failures=F("failures") - 1, allowed_at=AT_ANY_TIME)


def _add(count: _Count, now) -> bool:
    """By conditional update: whoever comes second finds what the first has left."""
    row = Tries.objects.filter(key=count.key, allowed_at__lte=now)
    # ``failures`` last: MySQL lets the other expressions see what was set before them.
    if count.is_of_account:
        return bool(row.update(allowed_at=_next_try(now), expires_at=now + REMEMBERED, failures=F("failures") + 1))
    full = When(failures__gte=PER_ADDRESS - 1, then=F("expires_at"))
    return bool(row.update(allowed_at=Case(full, default=F("allowed_at")), failures=F("failures") + 1))


def _next_try(now) -> Case:
    moments = [Value(now + wait, output_field=models.DateTimeField()) for wait in WAITS]
    waiting = [When(failures=failures, then=moment) for failures, moment in enumerate(moments, PER_ACCOUNT - 1)]
    return Case(When(failures__lt=PER_ACCOUNT - 1, then=F("allowed_at")), *waiting, default=moments[-1])


def _begin(count: _Count, now, is_new: bool) -> None:
    fresh = {"failures": 0, "allowed_at": AT_ANY_TIME, "expires_at": now + count.lifetime}
    if is_new:
        _make_room(count.kind, now)
        Tries.objects.bulk_create([Tries(kind=count.kind, key=count.key, **fresh)], ignore_conflicts=True)
    else:
        Tries.objects.filter(key=count.key, expires_at__lte=now).update(**fresh)


def _make_room(kind: Tries.Kind, now) -> None:
    expired = list(Tries.objects.filter(expires_at__lte=now).values_list("pk", flat=True)[:AT_ONCE])
    if expired:
        Tries.objects.filter(pk__in=expired, expires_at__lte=now).delete()
    mine = Tries.objects.filter(kind=kind)
    if mine.count() >= ROWS:  # those of which least is known: many names do not wash an account's failures away
        Tries.objects.filter(
            pk__in=list(mine.order_by("failures", "expires_at")[:AT_ONCE].values_list("pk", flat=True))
        ).delete()


def _refuse(count: _Count, wait: timedelta, address: str) -> None:
    # No name: it may be a password in the wrong field. The key says which lines are about the same one.
    what = "account" if count.is_of_account else "address"
    logger.warning("A try from %s was not looked at: too many of %s %.12s", address, what, count.key)
    raise TooManyTriesError(max(1, ceil(wait.total_seconds())))


def answer_in_step(request) -> None:
    """
    The answer to this request goes out a whole number of steps after it came, so that what was found, and where, is
    lost in the rounding. What it took says no more after that than before, wherever between two steps it ends.
    """
    if request is not None:
        getattr(request, "_request", request).is_answered_in_step = True  # REST framework's has Django's inside


def wait_for_step(request) -> None:
    """For the middleware, when nothing is bound any more."""
    if getattr(request, "is_answered_in_step", False):
        time.sleep(STEP_SECONDS - (time.monotonic() - request.began_at) % STEP_SECONDS)


def _key(*parts: str) -> str:
    """Under the plane's own secret, so that a copy of its database does not tell what was typed for a name."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return salted_hmac("tenants.accounts.tries", text, algorithm="sha256").hexdigest()
