"""
How a scan goes from one state to the next: the only place that writes one.

Each move is a conditional UPDATE, so that of two that do not agree one happens; and it writes its event in the same
transaction, so that what happened is told as it did: who, why, and in which order.
"""

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models import F

from scans.models import Scan, ScanEvent

_STATE = Scan.State
COMES_FROM: dict[str, tuple[str, ...]] = {
    _STATE.QUEUED: (_STATE.DISPATCHED, _STATE.PAUSED),
    _STATE.BLOCKED: (_STATE.QUEUED, _STATE.BLOCKED, _STATE.DISPATCHED, _STATE.RUNNING),
    _STATE.DISPATCHED: (_STATE.QUEUED, _STATE.BLOCKED),
    _STATE.RUNNING: (_STATE.QUEUED, _STATE.BLOCKED, _STATE.DISPATCHED, _STATE.RUNNING),  # the last by taking it over
    _STATE.PAUSING: (_STATE.RUNNING,),
    _STATE.PAUSED: (_STATE.QUEUED, _STATE.BLOCKED, _STATE.DISPATCHED, _STATE.PAUSING),
    _STATE.CANCELLING: (_STATE.RUNNING, _STATE.PAUSING),
    _STATE.CANCELLED: (_STATE.QUEUED, _STATE.BLOCKED, _STATE.DISPATCHED, _STATE.PAUSED, _STATE.CANCELLING),
    # One that was to be paused may have come to its end first; one that was to be cancelled is cancelled.
    _STATE.SUCCEEDED: (_STATE.RUNNING, _STATE.PAUSING),
    _STATE.PARTIAL: (_STATE.RUNNING, _STATE.PAUSING),
    _STATE.FAILED: (_STATE.RUNNING, _STATE.PAUSING),
    _STATE.EXPIRED: (_STATE.QUEUED, _STATE.BLOCKED, _STATE.DISPATCHED),
    _STATE.QUARANTINED: (_STATE.DISPATCHED, _STATE.RUNNING),
}


def move(
    scan_id: UUID, to: str, *, of: Collection[str] = (), reason: str = "", by=None, fence: int | None = None, **also
) -> bool:
    """
    Whether the scan went there, with what is to be written ``also``; ``of`` these states alone, if any are named.
    ``by`` is the member who asked for it, ``fence`` the lease of the worker that did it; neither is a dispatcher's.
    """
    going = Scan.objects.filter(pk=scan_id, state__in=[state for state in COMES_FROM[to] if not of or state in of])
    if to != Scan.State.RUNNING:
        going = going.exclude(state=to, reason=reason)
    with transaction.atomic():
        if not going.move(state=to, reason=reason, moves=F("moves") + 1, **also):
            return False
        sequence = Scan.objects.values_list("moves", flat=True).get(pk=scan_id)
        ScanEvent.objects.create(scan_id=scan_id, sequence=sequence, state=to, reason=reason, by=by, fence=fence)
    return True
