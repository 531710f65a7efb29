"""What a worker does with a scan. It knows nothing of tenants: the job that carries it has bound one."""

import logging
import time
from functools import partial
from uuid import UUID

from rq import get_current_job

from scans.engines import ENGINES
from scans.engines.base import EngineTarget, FindingEvent, Progress, from_json
from scans.engines.runner import EngineResult, Limits, run_engine
from scans.exceptions import LeaseLost, ScanRefused
from scans.leases import Lease, take_lease
from scans.limits import require_engine_seconds
from scans.models import Scan, ScanRun
from scans.recording import close_what_is_gone, record_finding, record_result, start_run
from scans.services import require_permission_to_scan, resolve
from tenants.exceptions import DatabaseBehindError, DatabaseSilentError, TenantError, WorkHaltedError
from tenants.halts import require_not_halted, require_still_served

logger = logging.getLogger(__name__)

PERMISSION_SECONDS = 2  # how often a running scan asks whether it may go on
REPORT_SECONDS = 0.5  # how often progress is written, and with it the lease renewed
LIMITS = Limits(seconds=600, memory_bytes=1024**3, output_bytes=16 * 1024**2)


def run_scan(message_id: str) -> None:
    """
    Runs the scan whose task has this message id, if its lease is to be had. Safe to call again, at any time, from
    anywhere: the lease decides, and findings are recorded once.
    """
    job = get_current_job()
    if job is not None and job.id != message_id:
        logger.warning("Job %s carries the message %s and is not run", job.id, message_id)
        return
    lease = take_lease(UUID(message_id))
    if lease is None:
        logger.info("Task %s is done or another worker's", message_id)
        return
    try:
        _run(lease)
    except LeaseLost as error:
        logger.warning("%s Its engine is stopped and nothing more is written.", error)
    except DatabaseBehindError as error:
        logger.warning("%s: %s", lease.scan, error)
        lease.give_back(Scan.State.BLOCKED, error.code, lease.blocked_seconds)


def _run(lease: Lease) -> None:
    scan = lease.scan
    try:
        require_permission_to_scan(scan.target, scan.profile)
        require_engine_seconds()
        require_not_halted(scan.profile.engines)
        addresses = resolve(scan.target)
    except (ScanRefused, WorkHaltedError) as refusal:
        lease.give_back(Scan.State.BLOCKED, refusal.code, lease.blocked_seconds)
        return
    target = EngineTarget(
        host=scan.target.host,
        addresses=addresses,
        ports=tuple(scan.target.ports),
        user_agent=f"Bulkhead/0.1 (authorised security scan {scan.id})",
        ca_pem=scan.target.ca_pem,
    )
    engines = [name for name in ENGINES if name in scan.profile.engines]
    # Who takes over or goes on after a pause begins after the last engine that came to its end.
    done = set(scan.runs.exclude(outcome__in=["", "cancelled"]).values_list("engine", flat=True))
    permission = Permission(scan)
    for index, name in enumerate(engines):
        if name not in done and not permission.is_gone():
            _run_engine(lease, name, target, permission, share=(index, len(engines)))
    if permission.wish == Scan.State.PAUSING:
        lease.give_back(Scan.State.PAUSED)
        return
    if permission.wish == Scan.State.BLOCKED:
        lease.give_back(Scan.State.BLOCKED, WorkHaltedError.code, lease.blocked_seconds)
        return
    lease.record(partial(close_what_is_gone, scan))
    lease.finish(*((Scan.State.PARTIAL, permission.reason) if permission.reason else _verdict(scan)))


class Permission:
    """
    What allowed the scan to start, looked at again while it runs: its withdrawal stops the engine. So does a member's
    ``wish`` to pause or to cancel it, and an operator's to halt it.
    """

    def __init__(self, scan: Scan):
        self.reason = self.wish = ""
        self._scan = scan
        self._looked_at = time.monotonic()

    def is_gone(self) -> bool:
        if not self.reason and not self.wish and time.monotonic() - self._looked_at >= PERMISSION_SECONDS:
            self._looked_at = time.monotonic()
            state = Scan.objects.values_list("state", flat=True).get(pk=self._scan.pk)
            if state in (Scan.State.PAUSING, Scan.State.CANCELLING):
                self.wish = state
                return True
            try:
                self._scan.target.refresh_from_db(fields=["is_active"])
                require_permission_to_scan(self._scan.target, self._scan.profile)
                require_still_served(self._scan.profile.engines)
            except WorkHaltedError:
                self.wish = Scan.State.BLOCKED
            except (DatabaseSilentError, DatabaseBehindError):
                raise  # as when it was this look that waited: nobody has withdrawn anything
            except (ScanRefused, TenantError) as refusal:
                self.reason = refusal.code
        return bool(self.reason or self.wish)


def _run_engine(lease: Lease, name: str, target: EngineTarget, permission: Permission, share: tuple[int, int]) -> None:
    engine = ENGINES[name]
    options = from_json(engine.Options, lease.scan.profile.engines[name])
    run = lease.record(partial(start_run, lease, name))
    reported_at = 0.0
    for event in run_engine(engine, target, options, LIMITS, should_stop=permission.is_gone):
        if isinstance(event, FindingEvent):
            lease.record(partial(record_finding, run, engine.RULES[event.rule_key], event, target.host))
        elif isinstance(event, EngineResult):
            lease.record(partial(record_result, run, event))
        elif isinstance(event, Progress) and time.monotonic() - reported_at >= REPORT_SECONDS:
            reported_at = time.monotonic()
            lease.report(_percent(event, *share), f"{name}: {event.message}")


def _percent(event: Progress, index: int, count: int) -> int:
    part = min(event.done / event.total, 1.0) if event.total else 0.0
    return int(100 * (index + part) / count)


def _verdict(scan: Scan) -> tuple[str, str]:
    """How a scan ended, from what its runs covered: only complete coverage of a healthy target is success."""
    newest = {run.engine: run for run in ScanRun.objects.filter(scan=scan).exclude(outcome="").order_by("fence")}
    runs = list(newest.values())  # of each engine: before a pause it was stopped
    if not any(run.outcome == "completed" for run in runs):
        return Scan.State.FAILED, runs[-1].outcome if runs else "engine_unavailable"
    if not all(run.is_healthy for run in runs):
        return Scan.State.PARTIAL, "target_unhealthy"
    if any(run.outcome != "completed" for run in runs):
        return Scan.State.PARTIAL, "engine_incomplete"
    if any(run.not_covered for run in runs):
        return Scan.State.PARTIAL, "not_covered"
    return Scan.State.SUCCEEDED, ""
