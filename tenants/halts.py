"""Whether work may begin in the bound tenant, and whether long work may go on."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from tenants.connections import close_tenant_connections
from tenants.context import ACTIVE, current_tenant, require_state
from tenants.exceptions import TenantUnavailableError, WorkHaltedError
from tenants.planes import require_bound
from tenants.registry import registry


def require_not_halted(kinds: Iterable[str]) -> None:
    """Before work of these kinds begins in the bound tenant. Raises ``WorkHaltedError``."""
    _require_none(require_bound().halts, kinds)


def require_still_served(kinds: Iterable[str] = ()) -> None:
    """
    For long work inside a tenant: raises ``TenantSuspendedError`` and its like once the bound tenant is no longer
    active, and ``WorkHaltedError`` once an operator stops work of these kinds. It is asked in a thread, which starts
    unbound: what is bound here cannot reach control.
    """
    with ThreadPoolExecutor(1) as outside:
        outside.submit(_require_served, current_tenant().id, kinds).result()


def _require_none(halts: frozenset[str], kinds: Iterable[str]) -> None:
    if halts.intersection(["", *kinds]):
        raise WorkHaltedError("An operator has halted work of this kind.")


def _require_served(tenant_id: UUID, kinds: Iterable[str]) -> None:
    try:
        record = registry.get(tenant_id)
    except TenantUnavailableError:  # control cannot be read: no reason to stop
        return
    finally:
        close_tenant_connections()
    require_state(record, ACTIVE)
    _require_none(registry.halts_of(tenant_id, running=True), kinds)
