from datetime import timedelta

from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from tenants.audit.verification import prune
from tenants.context import control_plane, fleet_context
from tenants.management.base import TenancyCommand

LEAST_DAYS = 90


class Command(TenancyCommand):
    help = "Forget a tenant's, or the operators', audit events of more than so many days ago, once they are verified."
    example = "prune_audit acme --days 730"

    def add_arguments(self, parser):
        parser.add_argument("slug", nargs="?", help="a tenant")
        parser.add_argument("--control", action="store_true", help="what operators did, instead of a tenant's")
        parser.add_argument("--days", type=int, required=True, help=f"what is to be kept, at least {LEAST_DAYS}")

    def handle(self, slug, control, days, **options):
        if bool(slug) == control:
            raise CommandError("Name a tenant, or give --control.")
        if days < LEAST_DAYS:
            raise CommandError(f"At least {LEAST_DAYS} days are kept.")
        verify = [] if control else [slug]
        call_command("verify_audit", *verify, stdout=self.stderr)
        with control_plane() if control else fleet_context(slug, "migration"):
            last = prune(timezone.now() - timedelta(days=days))
        call_command("verify_audit", *verify, stdout=self.stderr)
        self.stdout.write(f"Forgotten: events up to {last}." if last else "Nothing is that old.")
