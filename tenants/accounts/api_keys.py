"""
Keys for programs: ``bhk_<tenant>_<prefix>_<secret>``. The tenant says which database to ask, as a token's ``kid``
does; the prefix, which row; and the digest of the whole must be that row's.
"""

import hashlib
import hmac
import re
import secrets
import string
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from tenants.accounts.models import ApiKey
from tenants.context import current_tenant
from tenants.exceptions import DatabaseReadOnlyError, InvalidTokenError

MARK = "bhk_"
FORM = re.compile(r"bhk_([0-9a-f]{32})_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
USE_IS_NOTED_EVERY = timedelta(minutes=1)
LONGEST_LIFE = timedelta(days=366)


def make_key(user, *, name: str, expires_at: datetime, scope: str = ApiKey.Scope.READ) -> tuple[ApiKey, str]:
    """Its row, and the key, which cannot be had again."""
    prefix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
    text = f"{MARK}{current_tenant().id.hex}_{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey.objects.create(
        user=user, name=name, scope=scope, expires_at=expires_at, prefix=prefix, digest=_digest(text)
    )
    return key, text


def tenant_of_key(text: str) -> UUID:
    """As the key says, which proves nothing yet. Raises ``InvalidTokenError``."""
    form = FORM.fullmatch(text)
    if form is None:
        raise InvalidTokenError("The API key has no key's form.")
    return UUID(form[1])


def require_key(text: str) -> ApiKey:
    """
    Inside the tenant that it names: its row, with its member. Raises ``InvalidTokenError`` for one that is unknown,
    revoked or expired, or whose member is disabled. Asked at each request, so that an end is heard of at once.
    """
    now = timezone.now()
    prefix = text.split("_")[2]
    known = ApiKey.objects.filter(prefix=prefix, revoked_at=None, expires_at__gt=now, user__is_active=True)
    key = known.select_related("user").first()
    if key is None or not hmac.compare_digest(key.digest, _digest(text)):
        raise InvalidTokenError("The API key opens nothing.")
    unnoted = Q(last_used_at=None) | Q(last_used_at__lt=now - USE_IS_NOTED_EVERY)
    if key.last_used_at is None or key.last_used_at < now - USE_IS_NOTED_EVERY:
        with suppress(DatabaseReadOnlyError):  # a key opens reading there too
            ApiKey.objects.filter(unnoted, pk=key.pk).update(last_used_at=now)
    return key


def require_key_stands(pk: str) -> None:
    """For what goes on long after ``require_key``. Raises ``InvalidTokenError``."""
    stands = ApiKey.objects.filter(pk=pk, revoked_at=None, expires_at__gt=timezone.now(), user__is_active=True)
    if not stands.exists():
        raise InvalidTokenError("The API key has been revoked or has expired, or its member is disabled.")


def revoke_key(key: ApiKey) -> None:
    """Again changes nothing."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def _digest(text: str) -> str:
    """Another for each generation of the database: a key that was revoked since a copy was made stands in it again."""
    return hashlib.sha256(f"{text} {current_tenant().generation}".encode()).hexdigest()
