"""The life of tenants. Each function binds what it needs and may be run again after it was cut off."""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import Count, F, Q

from tenants.audit.trail import record
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, fleet_context, maintenance_context, provisioning_context, server_plane
from tenants.exceptions import (
    InvalidTransitionError,
    ProvisioningError,
    TenantError,
    TenantExistsError,
    TenantNotFoundError,
    TenantUnavailableError,
)
from tenants.locks import exclusive
from tenants.models import (
    DatabaseServer,
    LifecycleEvent,
    RegistryRevision,
    Tenant,
    TenantCredential,
    TenantKey,
    validate_slug,
)
from tenants.planes import Account
from tenants.provisioning import PROVISIONERS
from tenants.provisioning.sqlite import create_file
from tenants.schema import unapplied_migrations
from tenants.secrets import make_keys, seal

logger = logging.getLogger(__name__)
ACTION = LifecycleEvent.Action


@dataclass(frozen=True)
class Outcome:
    """What a function did for one tenant: its plain value, or its error as data."""

    slug: str
    seconds: float
    value: Any = None
    error: Exception | None = None


def prepare_home() -> list[Path]:
    """Makes the keys, and the control database's file where it is one; gives the keys that were made."""
    Path(settings.BULKHEAD_HOME).mkdir(mode=0o700, parents=True, exist_ok=True)
    made = make_keys()
    control = settings.DATABASES["control"]
    if control["ENGINE"].endswith("sqlite"):
        create_file(Path(control["NAME"]))
    return made


def create_tenant(*, slug: str, name: str = "", server: str | None = None) -> Tenant:
    """
    A tenant with a database, accounts and a signing key of its own, ready to serve.

    Run again after being cut off, it completes the creation. Raises ``InvalidSlugError``, ``TenantExistsError`` (also
    when another process is creating the same slug at this moment) and ``ProvisioningError``.
    """
    validate_slug(slug)
    with control_plane(), exclusive(slug):
        tenant = Tenant.objects.select_related("server").filter(slug=slug).first()
        if tenant is None:
            tenant = _register(slug, name or slug, server)
        elif tenant.state != Tenant.State.PROVISIONING:
            raise TenantExistsError(f"A tenant {slug!r} exists already.")
        try:
            _provision(tenant)
        except (DatabaseError, OSError, TenantError) as error:
            journal(tenant, ACTION.CREATE, "failed", str(error))
            raise ProvisioningError(
                f"Tenant {slug!r} could not be created: {error}. Run the command again once that is mended."
            ) from error
        return _transition(tenant, ACTION.CREATE, Tenant.State.PROVISIONING, Tenant.State.ACTIVE)


def add_database_server(*, name: str, host: str, port: int, admin_user: str, admin_password: str) -> DatabaseServer:
    """
    A MariaDB or MySQL server on which tenants can be made. It is tried first: one that does not answer, or on which
    every account may use some database, is refused with ``ProvisioningError`` and not kept.
    """
    validate_slug(name)
    server = DatabaseServer(
        name=name,
        engine=DatabaseServer.Engine.MYSQL,
        host=host,
        port=port,
        admin_user=admin_user,
        sealed_admin_password=seal(
            admin_password, key="fleet", tenant=f"server {name}", field="admin_password", version=1
        ),
    )
    with control_plane():
        if DatabaseServer.objects.filter(name=name).exists():
            raise ProvisioningError(f"There is a database server {name!r} already.")
        try:
            with server_plane(server):
                PROVISIONERS[server.engine].require_safe_server()
        except DatabaseError as error:
            raise ProvisioningError(f"The server at {host}:{port} cannot be used as {admin_user}: {error}") from error
        server.save(force_insert=True)
    return server


def suspend_tenant(*, slug: str) -> Tenant:
    with control_plane():
        return _transition(find_tenant(slug), ACTION.SUSPEND, Tenant.State.ACTIVE, Tenant.State.SUSPENDED)


def resume_tenant(*, slug: str) -> Tenant:
    """
    From suspension; and from maintenance, once its database proves to be its own.

    Raises ``InvalidTransitionError`` and, while the database is not fit, ``TenantUnavailableError``.
    """
    with control_plane(), exclusive(slug):
        tenant = find_tenant(slug)
        if tenant.state != Tenant.State.MAINTENANCE:
            return _transition(tenant, ACTION.RESUME, Tenant.State.SUSPENDED, Tenant.State.ACTIVE)
        try:
            with maintenance_context(tenant):
                connection.close()
                connection.ensure_connection()
        except DatabaseError as error:
            raise TenantUnavailableError(f"The database of tenant {slug!r} cannot be opened: {error}") from error
        return _transition(tenant, ACTION.RESUME, Tenant.State.MAINTENANCE, Tenant.State.ACTIVE)


def set_limits(*, slug: str, changes: dict[str, int | None]) -> dict[str, int]:
    """What is set afterwards; ``None`` takes a limit back. Every process hears of it within two seconds."""
    with control_plane(), exclusive(slug), transaction.atomic():
        tenant = find_tenant(slug)
        limits = {name: value for name, value in (tenant.limits | changes).items() if value is not None}
        RegistryRevision.publish([tenant], limits=limits)
        record("limited", tenant, old=tenant.limits, new=limits)
    return limits


def find_tenant(slug: str) -> Tenant:
    """Under ``control_plane``. Raises ``TenantNotFoundError``."""
    tenant = Tenant.objects.select_related("server").filter(slug=slug).first()
    if tenant is None:
        raise TenantNotFoundError(f"There is no tenant {slug!r:.80}.")
    return tenant


def served_slugs() -> list[str]:
    """The tenants that fleet commands go through: active and suspended ones."""
    with control_plane():
        states = (Tenant.State.ACTIVE, Tenant.State.SUSPENDED)
        return list(Tenant.objects.filter(state__in=states).values_list("slug", flat=True))


def for_each_tenant(
    fn: Callable[[], Any], parallel: int = 1, slugs: list[str] | None = None, account: Account = "runtime"
) -> Iterator[Outcome]:
    """
    ``fn()`` once inside each tenant; outcomes as they come, an error as data. One tenant's failure stops nobody.

    ``fn`` must give plain values: a queryset would be evaluated outside its tenant. Call it where nothing or control
    is bound. With ``parallel`` the order is that of completion.
    """

    def one(slug: str) -> Outcome:
        started_at = time.monotonic()
        try:
            with fleet_context(slug, account):
                value = fn()
        except Exception as error:
            return Outcome(slug, time.monotonic() - started_at, error=error)
        return Outcome(slug, time.monotonic() - started_at, value)

    def one_and_close(slug: str) -> Outcome:
        outcome = one(slug)
        close_tenant_connections()  # the thread ends without saying good-bye to them
        return outcome

    slugs = served_slugs() if slugs is None else slugs
    if parallel == 1:
        yield from map(one, slugs)
    else:
        with ThreadPoolExecutor(parallel) as pool:
            for done in as_completed([pool.submit(one_and_close, slug) for slug in slugs]):
                yield done.result()


def migrate_bound_database() -> list[str]:
    """The bound database brought up to date; the names of the migrations that were applied."""
    plan = unapplied_migrations()
    if plan:
        call_command("migrate", verbosity=0, interactive=False)
    return plan


def _register(slug: str, name: str, server_name: str | None) -> Tenant:
    server = _choose_server(server_name)
    with transaction.atomic():
        tenant = Tenant.objects.create(slug=slug, name=name, server=server)
        if PROVISIONERS[server.engine].HAS_ACCOUNTS:
            for account in TenantCredential.Account.values:
                TenantCredential.objects.create(
                    tenant=tenant,
                    account=account,
                    user=_account_name(tenant, account, version=1),
                    sealed_password=seal(
                        secrets.token_urlsafe(32),
                        key=TenantCredential.SEALED_UNDER[account],
                        tenant=tenant.pk,
                        field=f"{account}_password",
                        version=1,
                    ),
                )
        TenantKey.make(tenant, 1)
        RegistryRevision.publish([tenant])
        journal(tenant, ACTION.CREATE, "registered")
    return tenant


def _choose_server(name: str | None) -> DatabaseServer:
    servers = DatabaseServer.objects.annotate(used=Count("tenants", filter=~Q(tenants__state=Tenant.State.DELETED)))
    if name is not None:
        server = servers.filter(name=name).first()
        if server is None:
            raise ProvisioningError(f"There is no database server {name!r}.")
        return server
    if not servers.exists():  # the embedded default needs no set-up
        return DatabaseServer.objects.get_or_create(name="local", defaults={"engine": DatabaseServer.Engine.SQLITE})[0]
    server = servers.filter(accepts_tenants=True, used__lt=F("capacity")).order_by("used", "name").first()
    if server is None:
        raise ProvisioningError("No database server accepts tenants: add one, or name one with --server.")
    return server


def _account_name(tenant: Tenant, account: str, version: int) -> str:
    """At most 32 characters, MySQL's limit, and a function of the tenant, so that an orphan can be recognised."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    number, name = tenant.pk.int, ""
    while number:
        number, digit = divmod(number, 36)
        name = digits[digit] + name
    return f"{account[0]}{version}_{name}"


def _provision(tenant: Tenant) -> None:
    """Nobody is served from it yet, so what an earlier try left is dropped rather than trusted."""
    provisioner = PROVISIONERS[tenant.server.engine]
    credentials = list(tenant.credentials.all())
    with server_plane(tenant.server) if provisioner.HAS_ACCOUNTS else nullcontext():
        if provisioner.HAS_ACCOUNTS:
            provisioner.require_safe_server()
        provisioner.drop_database(tenant.alias, [credential.user for credential in credentials])
        provisioner.create_database(tenant.alias)
        for credential in credentials:
            provisioner.create_account(tenant.alias, credential)
    journal(tenant, ACTION.CREATE, "database made")
    with provisioning_context(tenant, "migration"):
        migrate_bound_database()
    journal(tenant, ACTION.CREATE, "migrated")


def _transition(tenant: Tenant, action: str, state: str, next_state: str) -> Tenant:
    """By conditional update: of two processes that try, one does it and the other is told."""
    with transaction.atomic():
        changed = RegistryRevision.publish(Tenant.objects.filter(pk=tenant.pk, state=state), state=next_state)
        if not changed:
            tenant.refresh_from_db()
            raise InvalidTransitionError(
                f"Tenant {tenant.slug!r} is {tenant.state}; only one that is {state} can become {next_state}."
            )
        journal(tenant, action, next_state)
    tenant.refresh_from_db()
    return tenant


def journal(tenant: Tenant, action: str, step: str, detail: str = "") -> None:
    """After what it is about: whoever publishes to registries locks their revision before the audit's head."""
    LifecycleEvent.objects.create(tenant=tenant, action=action, step=step, detail=detail[:500])
    record(action, tenant, step=step, detail=detail[:500])
