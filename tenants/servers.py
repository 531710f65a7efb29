"""Which database servers are silent, asked all at once: for who goes from tenant to tenant, and would wait for each."""

import logging

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Min

from tenants.breakers import silent_servers
from tenants.context import control_plane
from tenants.models import DatabaseServer, Tenant
from tenants.services import for_each_tenant

logger = logging.getLogger(__name__)
AT_ONCE = 32


def find_silent_servers(known: frozenset[str]) -> frozenset[str]:
    """
    Those that are silent, for who has just failed in a tenant. If one is beside the ``known`` ones, a connection to
    each other server is opened first, to all at once: so two silent servers are waited for, however many there are,
    and while all is well nobody is asked. Call it where nothing is bound.
    """
    silent = frozenset(silent_servers())
    if silent <= known:
        return silent
    try:
        with control_plane():
            served = Tenant.objects.filter(state=Tenant.State.ACTIVE, server__engine=DatabaseServer.Engine.MYSQL)
            rows = served.order_by().values_list("server__host", "server__port").annotate(Min("slug"))
            slugs = [slug for host, port, slug in rows if f"{host}:{port or ''}" not in silent]
    except DatabaseError as error:
        logger.warning("The servers cannot be read; each that is silent will be waited for: %s", error)
        return silent
    # One that is silent opens its breaker, as for anybody; what a server says of that tenant concerns nobody here.
    list(for_each_tenant(lambda: connection.ensure_connection(), parallel=AT_ONCE, slugs=slugs))
    return frozenset(silent_servers())
