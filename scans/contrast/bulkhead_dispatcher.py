"""The other half: this system's dispatcher on rows with the same numbers."""

from datetime import timedelta
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db.backends.signals import connection_created
from django.utils import timezone

from scans.contrast import Queues, Sent, Statement, SweepOutcome, find_wrong_sends
from scans.dispatch import run_round
from scans.models import Authorization, Scan, ScanProfile, Target, TaskQueue
from tenants import connections
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.models import Tenant
from tenants.services import create_tenant, prepare_home


def fill(queues: Queues) -> None:
    """An empty installation gets tenants whose outboxes hold these rows, each with the scan that it stands for."""
    prepare_home()
    with control_plane():
        call_command("migrate", verbosity=0)
    for slug, rows in queues.items():
        create_tenant(slug=slug)
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
    connections.close_tenant_connections()  # so that run_sweep hears the opening of each


def run_sweep(queues: Queues) -> SweepOutcome:
    """``run_round``, which is what ``dispatch`` runs, over the tenants in this order until their queues are empty."""
    with control_plane():
        slugs = {tenant.alias: tenant.slug for tenant in Tenant.objects.all()}
    sent: list[Sent] = []
    statements: list[Statement] = []

    def listen(sender, connection, **kwargs):
        opened = Path(connection.settings_dict["NAME"]).stem
        database = f"{slugs.get(opened, opened)}.sqlite3"

        def note(execute, sql, params, many, context):
            if 'FROM "scans_taskqueue"' in sql:
                statements.append(Statement(database, sql % tuple(map(repr, params or ()))))
            return execute(sql, params, many, context)

        connection.execute_wrappers.append(note)

    def send(task: TaskQueue) -> None:
        sent.append(Sent(current_tenant().slug, task.pk, task.task_id))

    connection_created.connect(listen)
    try:
        tenants: list = list(queues)
        while tenants:
            tenants = run_round(tenants, send)
    finally:
        connection_created.disconnect(listen)
    return SweepOutcome(tuple(sent), tuple(statements), find_wrong_sends(sent, queues))
