"""What engines report becomes rows. Call these by ``Lease.record()``, which may do it again."""

from django.db.models.functions import Now

from scans.engines.base import FindingEvent, Rule
from scans.engines.runner import EngineResult
from scans.leases import Lease
from scans.models import Finding, Occurrence, Scan, ScanRun


def start_run(lease: Lease, engine: str) -> ScanRun:
    return ScanRun.objects.create(scan=lease.scan, engine=engine, fence=lease.fence)


def record_finding(run: ScanRun, rule: Rule, event: FindingEvent, host: str) -> Finding:
    """
    The finding at this place: made when it is new, opened again when it was fixed, and seen now in either case.

    The caller holds the lease, and a target is a tenant's own; two scans of one target may still meet here, and the
    unique fingerprint decides between them.
    """
    place = {name: getattr(event, name) for name in ("scheme", "port", "method", "path", "parameter", "place")}
    seen = {
        "title": rule.title,
        "severity": rule.severity,
        "cwe": rule.cwe,
        "remediation": rule.remediation,
        "confidence": event.confidence,
        "last_seen_at": Now(),
    }
    finding, is_new = Finding.objects.get_or_create(
        fingerprint=Finding.fingerprint_of(run.scan.target_id, rule.key, host, *place.values()),
        defaults={"target": run.scan.target, "rule_key": rule.key, "host": host} | place | seen,
    )
    if not is_new:
        Finding.objects.filter(pk=finding.pk).update(**seen)
        Finding.objects.filter(pk=finding.pk, state=Finding.State.FIXED).update(state=Finding.State.OPEN)
    Occurrence.objects.get_or_create(finding=finding, run=run, defaults={"evidence": event.evidence})
    return finding


def record_result(run: ScanRun, result: EngineResult) -> None:
    ScanRun.objects.filter(pk=run.pk).update(
        version=result.version[:80],
        argv=list(result.argv),
        outcome=result.outcome,
        exit_code=result.exit_code,
        coverage=[[covered.rule_key, covered.port] for covered in result.coverage],
        not_covered=[[missed.rule_key, missed.port, missed.reason] for missed in result.not_covered],
        is_healthy=result.healthy,
        error=result.stderr_tail,
        ended_at=Now(),
    )


def close_what_is_gone(scan: Scan) -> int:
    """
    Marks as fixed what an engine able to find it looked for in this scan, completely and on a healthy target, and did
    not find; the number of findings. Absence alone closes nothing: a dead target has no findings either.
    """
    runs = list(scan.runs.filter(outcome="completed", is_healthy=True))
    covered = {(rule, port) for run in runs for rule, port in run.coverage}
    # Only what nobody has seen since this scan began: another scan may have seen it after this one looked.
    began = Scan.objects.filter(pk=scan.pk).values("started_at")
    unseen = Finding.objects.filter(
        target=scan.target, host=scan.target.host, state=Finding.State.OPEN, last_seen_at__lt=began
    )
    closed = 0
    for finding in unseen:
        if (finding.rule_key, finding.port) in covered:
            closed += unseen.filter(pk=finding.pk, version=finding.version).update(state=Finding.State.FIXED)
    return closed
