from django.core.management.base import CommandError

from tenants.management.base import TenancyCommand
from tenants.services import for_each_tenant, migrate_bound_database, served_slugs


class Command(TenancyCommand):
    help = "Bring every tenant's database up to date. One tenant's failure does not stop the others."
    example = "migrate_tenants acme globex"

    def add_arguments(self, parser):
        parser.add_argument("slugs", nargs="*", metavar="slug", help="these tenants only")

    def handle(self, slugs, **options):
        slugs = slugs or served_slugs()
        failed = []
        for number, outcome in enumerate(for_each_tenant(migrate_bound_database, slugs=slugs, account="migration"), 1):
            if outcome.error is not None:
                failed.append(outcome.slug)
            detail = outcome.error or ", ".join(outcome.value) or "up to date"
            self.stdout.write(
                f"[{number}/{len(slugs)}] {outcome.slug:<16} {'failed' if outcome.error else 'ok':<6} "
                f"{outcome.seconds:.1f} s  {detail}"
            )
        if failed:
            raise CommandError(
                f"{len(failed)} of {len(slugs)} not migrated. Again, once mended: "
                f"./manage.py migrate_tenants {' '.join(failed)}"
            )
