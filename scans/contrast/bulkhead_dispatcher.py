"""The other half: this system's dispatcher on rows with the same numbers."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.utils import timezone

from scans.contrast import Queues, Sent, SweepOutcome, find_wrong_sends
from scans.contrast.listening import statements_sent
from scans.dispatch import run_round
from scans.models import Authorization, Scan, ScanProfile, Target, TaskQueue
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.services import create_tenant, prepare_home, set_limits


def fill(queues: Queues) -> None:
    """An empty installation gets tenants whose outboxes hold these rows, each with the scan that it stands for."""
    prepare_home()
    with control_plane():
        call_command("migrate", verbosity=0)
    for slug, rows in queues.items():
        create_tenant(slug=slug)
        set_limits(slug=slug, changes={"weight": 100, "running_scans": 100})  # no worker takes any of them
        with tenant_context(slug):
            user = get_user_model().objects.create_user("dispatcher")
            target = Target.objects.create(name="target", host="target.example", ports=[443], created_by=user)
            Authorization.objects.create(
                target=target, statement="Ours.", created_by=user, expires_at=timezone.now() + timedelta(hours=1)
            )
            profile = ScanProfile.objects.create(name="contrast", engines={"ports": {}})
            for row in rows:
                Scan.objects.create(number=row.task_id, target=target, profile=profile, created_by=user)
                TaskQueue.objects.create(pk=row.queue_id, task_id=row.task_id)


def run_sweep(queues: Queues) -> SweepOutcome:
    """``run_round``, which is what ``dispatch`` runs, over the tenants in this order until their queues are empty."""
    sent: list[Sent] = []

    def send(task: TaskQueue) -> None:
        sent.append(Sent(current_tenant().slug, task.pk, task.task_id))

    with statements_sent(lambda sql: 'FROM "scans_taskqueue"' in sql and "ORDER BY" in sql) as statements:
        tenants: list = list(queues)
        while tenants:
            tenants = run_round(tenants, send)
    return SweepOutcome(tuple(sent), tuple(statements), find_wrong_sends(sent, queues))
