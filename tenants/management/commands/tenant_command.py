import argparse

from django.core.management import call_command

from tenants.context import fleet_context
from tenants.management.base import TenancyCommand

ALTERS_TABLES = {"migrate"}  # bound with the tenant's migration account, everything else with its runtime account


class Command(TenancyCommand):
    help = "Run any command inside one tenant: migrate, shell, dbshell, createsuperuser, dumpdata ..."
    example = "tenant_command acme dumpdata scans.Target --indent 2"

    def add_arguments(self, parser):
        parser.add_argument("slug")
        parser.add_argument("command")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, slug, command, arguments, **options):
        with fleet_context(slug, "migration" if command in ALTERS_TABLES else "runtime"):
            call_command(command, *arguments, stdout=self.stdout, stderr=self.stderr)
