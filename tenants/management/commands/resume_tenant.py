from tenants.management.base import TenancyCommand
from tenants.services import resume_tenant


class Command(TenancyCommand):
    help = "Resume a suspended tenant, or one in maintenance whose database proves to be its own."
    example = "resume_tenant acme"

    def add_arguments(self, parser):
        parser.add_argument("slug")

    def handle(self, slug, **options):
        self.stdout.write(f"{resume_tenant(slug=slug)} is active.")
