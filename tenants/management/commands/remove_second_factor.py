from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from tenants.accounts.second_factor import remove_all
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Remove the second factor, passkeys too, of an operator, or inside tenant_command of a member, who lost it."
    example = "remove_second_factor oscar"

    def add_arguments(self, parser):
        parser.add_argument("username")

    def handle(self, username, **options):
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account {username!r} here.")
        if not remove_all(user):
            raise CommandError(f"{username} has no second factor.")
        self.stdout.write(f"{username} has no second factor any more, and has to log in again.")
