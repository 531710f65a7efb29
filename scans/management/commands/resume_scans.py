from scans.engines import ENGINES
from tenants.management.base import TenancyCommand
from tenants.models import Halt
from tenants.registry import registry
from tenants.services import find_tenant


class Command(TenancyCommand):
    help = "End what halt_scans began with the same --tenant and --engine; blocked scans go on within a minute."
    example = "resume_scans --engine nmap"

    def add_arguments(self, parser):
        parser.add_argument("--tenant", metavar="SLUG")
        parser.add_argument("--engine", choices=[*ENGINES], default="")

    def handle(self, tenant, engine, **options):
        whose = find_tenant(tenant) if tenant else None
        ended, _ = Halt.objects.filter(tenant=whose, kind=engine).delete()
        registry.expire()
        self.stdout.write(f"{ended} ended; {Halt.objects.count()} left.")
