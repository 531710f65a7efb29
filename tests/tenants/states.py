from django.db import transaction

from tenants.context import control_plane
from tenants.models import RegistryRevision, Tenant


def set_state(slug, state):
    """Whatever state a tenant may be found in, also those that no command leads to yet."""
    with control_plane(), transaction.atomic():
        RegistryRevision.publish(Tenant.objects.filter(slug=slug), state=state)
