"""What members ask for. Each function runs in the bound tenant and in the caller's transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from scans.addresses import AddressRefused, resolve_target
from scans.exceptions import ScanRefused
from scans.limits import require_room_in_queue
from scans.models import INTRUSIVENESS, Scan, ScanCounter, ScanEvent, ScanProfile, Target, TaskQueue
from scans.states import move
from scans.wakeup import announce_after_commit
from tenants.audit.trail import lock_head, record


def request_scan(
    *, target: Target, profile: ScanProfile, user, priority: int = 5, retry_of: Scan | None = None
) -> Scan:
    """
    A queued scan and its row in the outbox, in one transaction; the dispatcher hears of it once that has committed.

    Raises ``ScanRefused`` when it could not run as things are, with nothing written; ``TooManyScans`` is one.
    """
    require_permission_to_scan(target, profile)
    with transaction.atomic():
        lock_head()  # before the target too, which a new scan's row locks
        number = ScanCounter.next()
        require_room_in_queue()  # under the counter's lock: of two who ask at once the second counts the first's
        scan = Scan.objects.create(
            number=number, target=target, profile=profile, created_by=user, retry_of=retry_of, moves=1
        )
        ScanEvent.objects.create(scan=scan, sequence=1, state=scan.state, by=user)
        TaskQueue.objects.create(task_id=scan.number, priority=priority)
        record("requested", scan, target=str(target), profile=str(profile))
        announce_after_commit()
    return scan


def cancel_scan(*, scan: Scan, user) -> None:
    """At once where it has not started; a running one within seconds. Again changes nothing."""
    with _locked(scan):
        if move(scan.pk, Scan.State.CANCELLED, by=user, of=Scan.UNHELD, ended_at=Now()):
            _open_task(scan).update(handled_at=Now())
        elif not move(scan.pk, Scan.State.CANCELLING, by=user):
            _require(scan, Scan.State.CANCELLING, Scan.State.CANCELLED)
            return
        record("cancelled", scan)


def pause_scan(*, scan: Scan, user) -> None:
    """As ``cancel_scan``. What an engine has not finished is begun again when it is resumed."""
    with _locked(scan):
        if move(scan.pk, Scan.State.PAUSED, by=user, of=Scan.UNHELD):
            _open_task(scan).update(available_at=None)
        elif not move(scan.pk, Scan.State.PAUSING, by=user):
            _require(scan, Scan.State.PAUSING, Scan.State.PAUSED)
            return
        record("paused", scan)


def resume_scan(*, scan: Scan, user) -> None:
    with _locked(scan):
        if not move(scan.pk, Scan.State.QUEUED, by=user, of=(Scan.State.PAUSED,)):
            _require(scan, Scan.State.QUEUED)
            return
        _open_task(scan).update(available_at=Now())
        announce_after_commit()
        record("resumed", scan)


def retry_scan(*, scan: Scan, user) -> Scan:
    """A new scan of what this one, which has ended, was of. Raises ``ScanRefused``."""
    if scan.state not in Scan.ENDED:
        raise ScanRefused("not_ended", "The scan has not ended yet.")
    return request_scan(target=scan.target, profile=scan.profile, user=user, retry_of=scan)


@contextmanager
def _locked(scan: Scan) -> Iterator[None]:
    """The task before the scan, as its worker does, and the audit before either."""
    with transaction.atomic():
        lock_head()
        _open_task(scan).select_for_update().first()
        yield


def _open_task(scan: Scan) -> QuerySet[TaskQueue]:
    return TaskQueue.objects.filter(task_id=scan.number, handled_at=None)


def _require(scan: Scan, *states: str) -> None:
    scan.refresh_from_db(fields=["state"])
    if scan.state not in states:
        raise ScanRefused(f"scan_{scan.state}", f"The scan is {scan.state}.")


def reconsider_blocked_scans(*, target: Target) -> None:
    """For whoever has changed what a scan of this target was blocked by: it is looked at again now, not in a minute."""
    blocked = target.scans.filter(state=Scan.State.BLOCKED).values("number")
    with transaction.atomic():
        tasks = TaskQueue.objects.filter(task_id__in=blocked, handled_at=None, lease_until=None)
        if tasks.update(available_at=Now()):
            announce_after_commit()


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
            seconds=min(10.0, settings.BULKHEAD_LEASE_SECONDS / 3),  # nothing renews a worker's lease meanwhile
        )
    except AddressRefused as error:
        raise ScanRefused(error.reason_code, error.detail) from error
