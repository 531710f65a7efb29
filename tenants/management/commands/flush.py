from django.core.management.base import CommandError
from django.core.management.commands import flush
from django.db import connections


class Command(flush.Command):
    help = "Refused: it would empty the audit, which is kept. Make the database again instead."

    def handle(self, **options):
        connections[options["database"]].ensure_connection()  # one that is not bound is refused as it always is
        raise CommandError("flush would empty the audit, which is kept. Make the database again instead.")
