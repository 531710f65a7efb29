import sys
from getpass import getpass

from django.contrib.auth import get_user_model, password_validation
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from tenants.context import fleet_context
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Create a member of a tenant. The password is asked for, or read from standard input."
    example = "create_member acme alice --role owner"

    def add_arguments(self, parser):
        parser.add_argument("slug")
        parser.add_argument("username")
        parser.add_argument("--role", default="tester", choices=get_user_model().Role.values)
        parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")

    def handle(self, slug, username, role, password_stdin, **options):
        User = get_user_model()
        with fleet_context(slug):
            user = User(username=username, role=role)
            password = sys.stdin.readline().rstrip("\n") if password_stdin else self._ask()
            try:
                user.clean_fields(exclude=["password"])
                user.validate_unique()
                password_validation.validate_password(password, user)
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from error
            User.objects.create_user(username, password, role=role)
        self.stdout.write(f"{username} is a member of {slug}, as {role}.")

    def _ask(self) -> str:
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for the password on: use --password-stdin.")
        password = getpass("Password: ")
        if password != getpass("Password (again): "):
            raise CommandError("The two passwords are not the same.")
        return password
