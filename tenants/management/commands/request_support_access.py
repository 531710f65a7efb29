from django.core.management.base import CommandError

from tenants.accounts.models import SupportAccess, User
from tenants.accounts.support import HOURS, ask
from tenants.audit.trail import record
from tenants.context import tenant_context
from tenants.management.base import TenancyCommand
from tenants.services import find_tenant


class Command(TenancyCommand):
    help = "Ask the owners of a tenant to let an operator in, to read or to work there for some hours."
    example = "request_support_access acme --operator oscar --reason 'Scan hangs'"

    def add_arguments(self, parser):
        parser.add_argument("slug")
        parser.add_argument("--operator", required=True, help="user name of an operator")
        parser.add_argument("--reason", required=True, help="what for; an owner reads it and decides")
        parser.add_argument("--full", action="store_true", help="to work there, too, as a tester does")
        parser.add_argument("--hours", type=int, default=1, help=f"at most {HOURS}; the default is one")

    def handle(self, slug, operator, reason, full, hours, **options):
        user = User.objects.filter(username=operator, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no operator {operator!r}.")
        scope = SupportAccess.Scope.FULL if full else SupportAccess.Scope.READ
        with tenant_context(slug):
            ask(user, reason=reason, scope=scope, hours=hours)
        record("support_asked", find_tenant(slug), operator=operator, reason=reason, scope=scope.value, hours=hours)
        self.stdout.write(f"An owner of {slug} is asked. Once it is granted, {operator} enters from the console.")
