"""
Binding a unit of work to its plane: the one thing that code which touches a database has to do.

    with tenant_context("acme"):
        Scan.objects.count()      # acme's scans
    Scan.objects.count()          # NoTenantError
"""

from typing import Any
from uuid import UUID

from tenants.binding import Binding, after_unbind, control_plane, unbound
from tenants.connections import complete
from tenants.exceptions import NoTenantError, TenantNotFoundError, TenantSuspendedError, TenantUnavailableError
from tenants.planes import Account, Bound, Plane, TenantSnapshot, require_bound
from tenants.provisioning import PROVISIONERS, Server
from tenants.registry import TenantRecord, registry

__all__ = [
    "after_unbind",
    "control_plane",
    "current_record",
    "current_tenant",
    "fleet_context",
    "login_context",
    "maintenance_context",
    "provisioning_context",
    "server_plane",
    "tenant_context",
    "unbound",
]

ACTIVE = frozenset({"active"})
ACTIVE_OR_SUSPENDED = frozenset({"active", "suspended"})


def tenant_context(tenant: Any) -> Binding:
    """
    Bind a ``with`` or ``async with`` block to ``tenant`` (a slug, a snapshot or a ``Tenant``): every query in it goes
    to that tenant's database. Gives the tenant's snapshot.

    The binding ends with the block, however it ends, and what was bound before (nothing, or control) comes back.
    The same tenant again changes nothing. In an event loop a tenant that this process has not read in the last two
    seconds needs ``async with``.

    Querysets are lazy: return lists from here.

    Raises ``TenantNotFoundError``, ``TenantSuspendedError``, ``TenantUnavailableError``; and ``WrongTenantError``
    inside another tenant's block or an open transaction.
    """
    return _tenant_binding(tenant, ACTIVE)


def login_context(tenant: Any) -> Binding:
    """``tenant_context`` for the log-in step alone, which tells a suspended tenant's members so after the password."""
    return _tenant_binding(tenant, ACTIVE_OR_SUSPENDED)


def fleet_context(tenant: Any, account: Account = "runtime") -> Binding:
    """``tenant_context`` for operators' commands: suspended tenants too, and the migration account where asked for."""
    return _tenant_binding(tenant, ACTIVE_OR_SUSPENDED, account)


def provisioning_context(tenant: Any, account: Account) -> Binding:
    """``tenant_context`` for a tenant's own creation, which nobody else can see."""
    return _tenant_binding(tenant, frozenset({"provisioning"}), account)


def maintenance_context(tenant: Any) -> Binding:
    """``tenant_context`` for the command that holds a tenant in maintenance."""
    return _tenant_binding(tenant, frozenset({"maintenance"}))


def server_plane(server: Any) -> Binding:
    """
    Bind a block to a database server as its administrator; ``server`` is a ``DatabaseServer``.

    For fleet commands only: it needs the fleet key, which web and workers do not load. No model lives here.
    """
    target = Server.of(server)

    def resolve() -> Bound:
        database = complete(PROVISIONERS[target.engine].admin_settings(target))
        return Bound(Plane.SERVER, f"s_{target.name}", "admin", database)

    return Binding(f"Server {target.name!r}", lambda bound: bound.alias == f"s_{target.name}", resolve)


def current_tenant() -> TenantSnapshot:
    """Raises ``NoTenantError`` when nothing, or no tenant, is bound."""
    return current_record().snapshot


def current_record() -> TenantRecord:
    """The bound tenant with its signing keys, for code of this package. Raises like ``current_tenant``."""
    bound = require_bound()
    if bound.record is None:
        raise NoTenantError(f"The {bound.plane} plane is bound, and no tenant.")
    return bound.record


def require_state(record: TenantRecord, states: frozenset[str]) -> None:
    """Raises the error that says why a tenant in this state is not served."""
    state, slug = record.snapshot.state, record.snapshot.slug
    if state in states:
        return
    if state == "suspended":
        raise TenantSuspendedError(f"Tenant {slug!r} is suspended.")
    if state in ("active", "maintenance"):
        raise TenantUnavailableError(f"Tenant {slug!r} is {state}: try again later.")
    raise TenantNotFoundError(f"There is no tenant {slug!r}.")


def _tenant_binding(tenant: Any, states: frozenset[str], account: Account = "runtime") -> Binding:
    key: UUID | str = tenant if isinstance(tenant, str | UUID) else tenant.id

    def is_bound(bound: Bound) -> bool:
        if bound.record is None or key not in (bound.record.snapshot.id, bound.record.snapshot.slug):
            return False
        return account in ("runtime", bound.account)  # the stronger account is never had by asking again

    def resolve() -> Bound:
        record = registry.get(key)
        require_state(record, states)
        database = record.runtime_database if account == "runtime" else record.database(account)
        halts = registry.halts_of(record.snapshot.id)
        return Bound(Plane.TENANT, record.alias, account, database, record, registry.operators, halts)

    return Binding(f"Tenant {key!s:.40}", is_bound, resolve)
