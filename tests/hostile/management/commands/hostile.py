from django.core.management.base import BaseCommand

from tests.hostile.doors import commit


class Command(BaseCommand):
    help = "A command written to cheat."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("order")

    def handle(self, order, **options):
        self.stdout.write(commit(order))
