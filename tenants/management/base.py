from django.core.management.base import BaseCommand, CommandError

from tenants.audit.provenance import acting
from tenants.exceptions import TenantError


class TenancyCommand(BaseCommand):
    """A command with an example under ``--help``, whose refusals are one sentence and a non-zero exit."""

    example = ""
    requires_system_checks = ["tenants"]  # what these commands rely on; the pages' checks are the web's

    def create_parser(self, prog_name, subcommand, **kwargs):
        return super().create_parser(prog_name, subcommand, epilog=f"Example: ./manage.py {self.example}", **kwargs)

    def execute(self, *args, **options):
        try:
            with acting(f"command {type(self).__module__.rpartition('.')[2]}"):
                return super().execute(*args, **options)
        except TenantError as error:
            raise CommandError(str(error)) from error
