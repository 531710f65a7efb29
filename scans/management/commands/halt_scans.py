from scans.engines import ENGINES
from tenants.management.base import TenancyCommand
from tenants.models import Halt
from tenants.registry import registry
from tenants.services import find_tenant


class Command(TenancyCommand):
    help = (
        "Start no scan until resume_scans, in one tenant or in all; with --now, stop those that run within 5 seconds."
    )
    example = "halt_scans --engine nmap --now --reason maintenance"

    def add_arguments(self, parser):
        parser.add_argument("--tenant", metavar="SLUG", help="in this one; in all otherwise")
        parser.add_argument("--engine", choices=[*ENGINES], default="", help="scans that use it; all otherwise")
        parser.add_argument("--now", action="store_true", help="stop them too; they go on when they are resumed")
        parser.add_argument("--reason", default="", help="for the audit")

    def handle(self, tenant, engine, now, reason, **options):
        whose = find_tenant(tenant) if tenant else None
        halt = Halt.objects.create(tenant=whose, kind=engine, stops_running=now, reason=reason[:200])
        registry.expire()
        self.stdout.write(f"Halted: {halt}.")
