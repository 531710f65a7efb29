import argparse

from django.core.management import call_command
from django.core.management.base import CommandError

from tenants.management.base import TenancyCommand
from tenants.management.commands.tenant_command import ALTERS_TABLES
from tenants.services import for_each_tenant, served_slugs


class Command(TenancyCommand):
    help = "Run a command inside every active or suspended tenant. One tenant's failure does not stop the others."
    example = "all_tenants clearsessions"

    def add_arguments(self, parser):
        parser.add_argument("command")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, command, arguments, **options):
        slugs = served_slugs()
        account = "migration" if command in ALTERS_TABLES else "runtime"
        outcomes = for_each_tenant(
            lambda: call_command(command, *arguments, stdout=self.stdout, stderr=self.stderr),
            slugs=slugs,
            account=account,
        )
        failed = []
        for number, outcome in enumerate(outcomes, 1):
            if outcome.error is not None:
                failed.append(outcome.slug)
            detail = f"failed: {outcome.error}" if outcome.error else "ok"
            self.stderr.write(f"[{number}/{len(slugs)}] {outcome.slug}: {detail}")
        if failed:
            raise CommandError(f"{command} failed in {len(failed)} of {len(slugs)} tenants: {', '.join(failed)}")
