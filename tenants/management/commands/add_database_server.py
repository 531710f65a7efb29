import sys
from getpass import getpass

from django.core.management.base import CommandError

from tenants.management.base import TenancyCommand
from tenants.services import add_database_server, prepare_home


class Command(TenancyCommand):
    help = "Add a MariaDB or MySQL server for tenants' databases. Its administrator's password is kept sealed."
    example = "add_database_server maria1 --host db1.internal --user bulkhead_admin"

    def add_arguments(self, parser):
        parser.add_argument("name", help="as a tenant's slug is made")
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, default=3306)
        parser.add_argument("--user", required=True, help="may create databases and accounts, and grant")
        parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")

    def handle(self, name, host, port, user, password_stdin, **options):
        prepare_home()
        if not password_stdin and not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for the password on: use --password-stdin.")
        password = sys.stdin.readline().rstrip("\n") if password_stdin else getpass("The administrator's password: ")
        server = add_database_server(name=name, host=host, port=port, admin_user=user, admin_password=password)
        self.stdout.write(f"{server.name} accepts tenants.")
