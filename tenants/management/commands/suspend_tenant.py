from tenants.management.base import TenancyCommand
from tenants.services import suspend_tenant


class Command(TenancyCommand):
    help = "Suspend a tenant: within two seconds its members get 403, and none of its scans is started."
    example = "suspend_tenant acme"

    def add_arguments(self, parser):
        parser.add_argument("slug")

    def handle(self, slug, **options):
        self.stdout.write(f"{suspend_tenant(slug=slug)} is suspended.")
