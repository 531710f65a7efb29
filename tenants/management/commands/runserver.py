from django.contrib.staticfiles.management.commands import runserver

from tenants.binding import control_plane, unbound
from tenants.secrets import give_up_fleet_key


class Command(runserver.Command):
    """Django's ``runserver``: requests are units of work of their own, and find their planes themselves."""

    def inner_run(self, *args, **options):
        give_up_fleet_key()
        with unbound():
            super().inner_run(*args, **options)

    # Both are of the control database; in the reloader's thread nothing is bound.

    def check(self, *args, **kwargs):
        with control_plane():  # since Django 6.1 this asks databases too
            super().check(*args, **kwargs)

    def check_migrations(self):
        with control_plane():
            super().check_migrations()
