from tenants.management.base import TenancyCommand
from tenants.rotation import rotate_tenant_keys


class Command(TenancyCommand):
    help = "Give a tenant a new key to sign with. What the former key signed goes on working until it has expired."
    example = "rotate_tenant_keys acme"

    def add_arguments(self, parser):
        parser.add_argument("slug")
        parser.add_argument(
            "--emergency",
            action="store_true",
            help="what former keys signed is worth nothing from now on: tokens, sessions, reset links, queued jobs",
        )

    def handle(self, slug, emergency, **options):
        key = rotate_tenant_keys(slug=slug, emergency=emergency)
        self.stdout.write(f"Key {key.number} of {slug} signs from {key.signs_from:%Y-%m-%d %H:%M:%S} UTC.")
