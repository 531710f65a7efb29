import json

from django.core.management.base import CommandError

from tenants.audit.verification import export
from tenants.context import control_plane, fleet_context
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Write a tenant's audit, or the operators', as JSON lines: oldest first, each event with its hash."
    example = "export_audit acme --after 1200"

    def add_arguments(self, parser):
        parser.add_argument("slug", nargs="?", help="a tenant")
        parser.add_argument("--control", action="store_true", help="what operators did, instead of a tenant's")
        parser.add_argument("--after", type=int, default=0, metavar="NUMBER", help="only events after this one")

    def handle(self, slug, control, after, **options):
        if bool(slug) == control:
            raise CommandError("Name a tenant, or give --control.")
        with control_plane() if control else fleet_context(slug):
            for event in export(after):
                self.stdout.write(json.dumps(event, sort_keys=True))
