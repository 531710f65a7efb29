from django.core.management.base import CommandError

from scans.limits import LIMITS
from tenants.management.base import TenancyCommand
from tenants.services import set_limits


class Command(TenancyCommand):
    help = "Say how many scans of a tenant run, wait and are asked for; what is not named stays as it is."
    example = "limit_tenant acme running_scans=2 weight=3"

    def add_arguments(self, parser):
        named = ", ".join(f"{name} ({default})" for name, (default, _) in LIMITS.items())
        parser.add_argument("slug")
        parser.add_argument("limits", nargs="+", metavar="NAME=NUMBER", help=f"{named}; NAME= takes back what was set")

    def handle(self, slug, limits, **options):
        changes = dict(_parse(each) for each in limits)
        for name, value in sorted(set_limits(slug=slug, changes=changes).items()):
            self.stdout.write(f"{name}={value}")


def _parse(text: str) -> tuple[str, int | None]:
    name, equals, number = text.partition("=")
    if name not in LIMITS or not equals:
        raise CommandError(f"{text!r:.80} is no limit. Write NAME=NUMBER; there are: {', '.join(LIMITS)}.")
    allowed = LIMITS[name][1]
    if not number:
        return name, None
    if not (number.isascii() and number.isdigit() and len(number) < 12 and int(number) in allowed):
        raise CommandError(f"{name} is a number from {allowed.start} to {allowed.stop - 1}.")
    return name, int(number)
