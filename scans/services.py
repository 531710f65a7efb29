"""What members ask for. Each function runs in the bound tenant and in the caller's transaction."""

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from scans.addresses import AddressRefused, resolve_target
from scans.exceptions import ScanRefused
from scans.models import INTRUSIVENESS, Scan, ScanCounter, ScanProfile, Target, TaskQueue
from scans.wakeup import wake_dispatcher
from tenants.audit.trail import record
from tenants.context import current_tenant


def request_scan(*, target: Target, profile: ScanProfile, user) -> Scan:
    """
    A queued scan and its row in the outbox, in one transaction; the dispatcher hears of it once that has committed.

    Raises ``ScanRefused`` when it could not run as things are, with nothing written.
    """
    require_permission_to_scan(target, profile)
    tenant_id = current_tenant().id
    with transaction.atomic():
        scan = Scan.objects.create(number=ScanCounter.next(), target=target, profile=profile, created_by=user)
        TaskQueue.objects.create(task_id=scan.number)
        record("requested", scan, target=str(target), profile=str(profile))
        transaction.on_commit(lambda: wake_dispatcher(tenant_id))
    return scan


def reconsider_blocked_scans(*, target: Target) -> None:
    """For whoever has changed what a scan of this target was blocked by: it is looked at again now, not in a minute."""
    tenant_id = current_tenant().id
    blocked = target.scans.filter(state=Scan.State.BLOCKED).values("number")
    with transaction.atomic():
        tasks = TaskQueue.objects.filter(task_id__in=blocked, handled_at=None, lease_until=None)
        if tasks.update(available_at=Now()):
            transaction.on_commit(lambda: wake_dispatcher(tenant_id))


def require_permission_to_scan(target: Target, profile: ScanProfile) -> None:
    """
    The conditions that hold at request, dispatch and start alike. Raises ``ScanRefused``.
    """
    if not target.is_active:
        raise ScanRefused("target_inactive", "The target is not active.")
    proofs = target.authorizations.all()
    valid = list(proofs.valid().values_list("intrusiveness", flat=True))
    if not valid:
        if proofs.filter(revoked_at__isnull=False).exists():
            raise ScanRefused("authorization_revoked", "The authorisation to test this target was withdrawn.")
        if proofs.exists():
            raise ScanRefused("authorization_stale", "The authorisation to test this target has expired.")
        raise ScanRefused("authorization_missing", "Nobody has authorised tests of this target.")
    allowed = max(INTRUSIVENESS.index(name) for name in valid)
    if INTRUSIVENESS.index(profile.intrusiveness) > allowed:
        raise ScanRefused(
            "intrusiveness_too_high",
            f"The profile is {profile.intrusiveness}; the authorisation allows {INTRUSIVENESS[allowed]} only.",
        )


def resolve(target: Target) -> tuple[str, ...]:
    """The literal addresses to scan, each of them allowed. Raises ``ScanRefused``."""
    try:
        return resolve_target(
            target.host,
            allow_loopback=settings.BULKHEAD_ALLOW_LOOPBACK_TARGETS,
            allow_private=settings.BULKHEAD_ALLOW_PRIVATE_TARGETS,
        )
    except AddressRefused as error:
        raise ScanRefused(error.reason_code, error.detail) from error
