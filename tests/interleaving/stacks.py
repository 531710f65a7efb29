"""The stack under test, as the machine sees it. ``tests/interleaving/naive.py`` is the other one."""

import threading
from typing import Any

import django_rq
from django.test import Client

from tenants.connections import close_tenant_connections
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.exceptions import TenantError
from tenants.jobs import TenantQueue
from tenants.planes import current
from tenants.tokens import TenantRefreshToken
from tests.interleaving.canaries import Unexpected
from tests.interleaving.jobs import work

TENANTS = 16
_retired = threading.local()


def note_retirement() -> None:
    """``settings.TENANT_RETIRE``."""
    _retired.count = retirements() + 1


def retirements() -> int:
    """Of this thread's units."""
    return getattr(_retired, "count", 0)


def slug(tenant: int) -> str:
    return f"deck-{tenant:02d}"


class Bulkhead:
    name = "bulkhead"
    refusals: tuple[type[Exception], ...] = (TenantError,)
    is_guarded = True

    def __init__(self, aliases: dict[int, str]) -> None:
        self._aliases = aliases
        self.tokens: dict[int, str] = {}
        self.ids: dict[int, str] = {}
        self._clients: dict[int, Client] = {}

    def bind(self, tenant: int) -> Any:
        return tenant_context(slug(tenant))

    def alias(self, tenant: int) -> str:
        return self._aliases[tenant]

    def control(self) -> Any:
        return control_plane()

    def bound(self) -> int | str | None:
        """The tenant's number, another plane's name, or nothing."""
        bound = current()
        if bound is None:
            return None
        return int(bound.record.snapshot.slug[-2:]) if bound.record else str(bound.plane)

    def log_in(self, tenant: int, user: Any) -> None:
        """Inside the tenant's binding."""
        self.ids[tenant] = current_tenant().id.hex
        self.tokens[tenant] = str(TenantRefreshToken.for_user(user).access_token)

    def ask(self, lane: int, tenant: int, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """In this thread, and in whatever is bound here: where that is something, the process has to be retired."""
        client = self._clients.setdefault(lane, Client(raise_request_exception=False))
        headers = {"Authorization": f"Bearer {token or self.tokens[tenant]}"}
        bound, before = self.bound(), retirements()
        response = client.generic(method, path, body or b"", content_type="application/json", headers=headers)
        if (retirements() > before) != (bound is not None):
            raise Unexpected(f"A request where {bound} was bound: {retirements() - before} retirements")
        return response

    def close(self, response: Any) -> None:
        """
        A streamed response half-way, by the test client's own iterator: that keeps ``request_finished`` from closing
        what other units of this thread have open.
        """
        response._iterator.close()

    def enqueue(self, mark: str, **options: Any) -> Any:
        return django_rq.get_queue("default").enqueue(work, mark, **options)

    def dequeue(self) -> Any:
        queue = django_rq.get_queue("default")
        found = TenantQueue.dequeue_any([queue], None, connection=queue.connection)
        return found[0] if found else None

    def waiting(self) -> int:
        return len(django_rq.get_queue("default"))

    def forget_jobs(self) -> None:
        django_rq.get_connection("default").flushdb()

    def let_go(self) -> None:
        """Of this thread's connections."""
        close_tenant_connections()
