from django.core.management.commands import migrate

from tenants.planes import Plane, require_bound
from tenants.services import prepare_home


class Command(migrate.Command):
    """Django's ``migrate``, of the bound plane; for control it also makes what a new installation needs."""

    def execute(self, *args, **options):  # the checks, which come before handle(), read the database already
        if require_bound().plane is Plane.CONTROL:
            for path in prepare_home():
                self.stderr.write(f"Made {path}")
        return super().execute(*args, **options)
