"""What must hold once all is quiet, however many processes were killed: each scan that was accepted ended once."""

from collections import Counter
from collections.abc import Iterator

from django.db.models import Count

from scans.models import Finding, IdempotencyKey, Occurrence, Scan, ScanEvent, ScanRun, TaskQueue
from tenants.context import tenant_context
from tests.faults.client import Client
from tests.faults.target import SlowTarget

FINDINGS = ["port.open", "service.telnet"]


def states_of(clients: list[Client]) -> Counter:
    counted: Counter = Counter()
    for client in clients:
        with tenant_context(client.slug):
            counted.update(Scan.objects.values_list("state", flat=True))
    return counted


def violations(client: Client, target: SlowTarget, engines_killed: int) -> list[str]:
    """Of one tenant; ``engines_killed`` is how many of its scans may have failed at most."""
    with tenant_context(client.slug):
        found = [*_accepted(client), *_ended_once(engines_killed), *_recorded_once(), *_in_the_ledger(target)]
    return [f"{client.slug}: {each}" for each in (*client.faults, *found)]


def _accepted(client: Client) -> Iterator[str]:
    asked, there = Counter(client.accepted.values()), {str(pk) for pk in Scan.objects.values_list("pk", flat=True)}
    for pk in asked.keys() - there:
        yield f"the accepted scan {pk} is lost"
    for pk in there - asked.keys():
        yield f"the scan {pk} is nobody's: a request was accepted twice, or its answer lost for good"
    for pk, count in asked.items():
        if count > 1:
            yield f"{count} keys have the answer of {pk}"
    if IdempotencyKey.objects.count() != len(client.accepted):
        yield f"{IdempotencyKey.objects.count()} keys are remembered, of {len(client.accepted)}"


def _ended_once(engines_killed: int) -> Iterator[str]:
    failed = 0
    ends = dict(
        ScanEvent.objects.filter(state__in=Scan.ENDED).values_list("scan").annotate(count=Count("pk")).order_by()
    )
    attempts = dict(TaskQueue.objects.values_list("task_id", "attempts"))
    for scan in Scan.objects.order_by("number"):
        if scan.state not in Scan.ENDED:
            yield f"{scan} is stuck: {scan.state} {scan.reason}"
        elif ends.get(scan.pk) != 1:
            yield f"{scan} ended {ends.get(scan.pk, 0)} times"
        elif list(scan.events.values_list("sequence", flat=True)) != list(range(1, scan.moves + 1)):
            yield f"the events of {scan} have gaps"
        elif scan.state == Scan.State.QUARANTINED and attempts[scan.number] < 3:
            yield f"{scan} is quarantined after {attempts[scan.number]} attempts"
        elif scan.state not in (Scan.State.SUCCEEDED, Scan.State.FAILED, Scan.State.QUARANTINED):
            yield f"{scan} ended as {scan.state} {scan.reason}"
        failed += scan.state == Scan.State.FAILED
    if failed > engines_killed:
        yield f"{failed} scans failed, and {engines_killed} engines were killed"
    if TaskQueue.objects.count() != Scan.objects.count() or TaskQueue.objects.filter(handled_at=None).exists():
        yield "a task is open, missing or there twice"


def _recorded_once() -> Iterator[str]:
    if sorted(Finding.objects.values_list("rule_key", flat=True)) != FINDINGS:
        yield f"findings: {sorted(Finding.objects.values_list('rule_key', flat=True))}"
    of_runs = dict(Occurrence.objects.values_list("run").annotate(count=Count("finding", distinct=True)).order_by())
    rows = dict(Occurrence.objects.values_list("run").annotate(count=Count("pk")).order_by())
    for run in ScanRun.objects.select_related("scan"):
        if rows.get(run.pk, 0) != of_runs.get(run.pk, 0):
            yield f"run {run.pk} has an occurrence twice"
        if run.outcome == "completed" and of_runs.get(run.pk) != len(FINDINGS):
            yield f"run {run.pk} completed with {of_runs.get(run.pk, 0)} findings"
    completed = ScanRun.objects.filter(outcome="completed").values_list("scan").annotate(count=Count("pk")).order_by()
    for scan, count in completed:
        if count > 1:
            yield f"{count} runs of scan {scan} completed"
    succeeded = set(Scan.objects.filter(state=Scan.State.SUCCEEDED).values_list("pk", flat=True))
    if missing := succeeded - {scan for scan, _ in completed}:
        yield f"succeeded without a completed run: {missing}"


def _in_the_ledger(target: SlowTarget) -> Iterator[str]:
    """What the target saw of engines is no more than the runs that are written down, and no less than they finished."""
    each = SlowTarget.CONNECTIONS_OF_A_RUN
    runs, completed = ScanRun.objects.count(), ScanRun.objects.filter(outcome="completed").count()
    if not completed * each <= target.connections <= runs * each:
        yield f"{target.connections} connections, of {runs} runs, {completed} completed, with {each} each"
    leases = set(ScanEvent.objects.filter(state=Scan.State.RUNNING).values_list("scan", "fence"))
    if strange := set(ScanRun.objects.values_list("scan", "fence")) - leases:
        yield f"runs under leases that nobody had: {strange}"
