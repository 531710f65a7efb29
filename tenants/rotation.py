"""New signing keys in place of old ones, while the tenant is served."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from tenants.context import control_plane
from tenants.exceptions import InvalidTransitionError
from tenants.locks import exclusive
from tenants.models import LifecycleEvent, RegistryRevision, TenantKey
from tenants.registry import STALE_SECONDS
from tenants.services import find_tenant, journal
from tenants.tokens import CLOCK_SKEW_SECONDS

# Registries hear of it within two seconds; the rest is for clocks that differ.
KNOWN_EVERYWHERE = timedelta(seconds=STALE_SECONDS + CLOCK_SKEW_SECONDS)


def rotate_tenant_keys(*, slug: str, emergency: bool = False) -> TenantKey:
    """
    A new signing key. The former one goes on signing until every process knows the new one, and verifies until the
    last refresh token that it signed has expired. In an ``emergency`` all former keys are gone at once, and with them
    every token, session, reset link and queued job of the tenant.

    Raises ``InvalidTransitionError`` while an earlier rotation's former key still verifies: two at most do.
    """
    now = timezone.now()
    with control_plane(), exclusive(slug):
        tenant = find_tenant(slug)
        keys = list(tenant.keys.order_by("number"))
        former = [key for key in keys if key.expires_at is not None and key.expires_at > now]
        if former and not emergency:
            raise InvalidTransitionError(
                f"The key before last of tenant {slug!r} verifies until {former[-1].expires_at:%Y-%m-%d %H:%M} UTC. "
                "Rotate after that, or with --emergency, which ends every log-in."
            )
        starts_at = now if emergency else now + KNOWN_EVERYWHERE
        number = keys[-1].number + 1
        with transaction.atomic():
            tenant.keys.filter(**{} if emergency else {"expires_at__lte": now}).delete()
            tenant.keys.update(expires_at=starts_at + api_settings.REFRESH_TOKEN_LIFETIME)
            key = TenantKey.make(tenant, number, signs_from=starts_at)
            RegistryRevision.publish([tenant])
            journal(tenant, LifecycleEvent.Action.ROTATE, f"key {number}", "emergency" if emergency else "")
        return key
