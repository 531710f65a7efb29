from tenants.management.base import TenancyCommand
from tenants.services import create_tenant, prepare_home


class Command(TenancyCommand):
    help = "Create a tenant with a database, accounts and a signing key of its own; run again, it completes a creation."
    example = 'create_tenant acme --name "Acme Corporation"'

    def add_arguments(self, parser):
        parser.add_argument("slug", help="2 to 32 characters of a-z, 0-9 and single hyphens, a letter first")
        parser.add_argument("--name", default="", help="shown to people; the slug when left out")
        parser.add_argument("--server", help="the database server's name; the emptiest one when left out")

    def handle(self, slug, name, server, **options):
        prepare_home()
        tenant = create_tenant(slug=slug, name=name, server=server)
        self.stdout.write(f"{tenant.slug} is active on {tenant.server.name}.")
