import django_rq

from tenants.jobs import TenantWorker
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Run jobs, each in a process of its own and inside its tenant. Any number of workers may run."
    example = "worker"

    def add_arguments(self, parser):
        parser.add_argument("--burst", action="store_true", help="stop once the queue is empty")

    def handle(self, burst, **options):
        worker = TenantWorker([django_rq.get_queue("default")], connection=django_rq.get_connection("default"))
        worker.work(burst=burst, logging_level="INFO")
