import django_rq

from tenants.binding import unbound
from tenants.jobs import TenantWorker
from tenants.management.base import TenancyCommand
from tenants.secrets import give_up_fleet_key


class Command(TenancyCommand):
    help = "Run jobs, each in a process of its own and inside its tenant. Any number of workers may run."
    example = "worker"

    def add_arguments(self, parser):
        parser.add_argument("--burst", action="store_true", help="stop once the queue is empty")

    def handle(self, burst, **options):
        give_up_fleet_key()
        with unbound():
            TenantWorker([django_rq.get_queue("default")], connection=django_rq.get_connection("default")).work(
                burst=burst, logging_level="INFO"
            )
