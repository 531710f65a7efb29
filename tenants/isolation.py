"""
Whether a live installation is as isolated as it was made: ``manage.py check_isolation``.

Only reads. What cannot be checked (a server that is down, a key that is not at hand) is said to be unchecked, which is
no clean result either, and the rest goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks.registry import registry as check_registry
from django.db import Error as DatabaseError
from django.db import connection

from tenants.binding import Binding
from tenants.connections import complete
from tenants.context import control_plane, fleet_context, maintenance_context, server_plane
from tenants.exceptions import DatabaseSilentError, ProvisioningError, SecretError, TenantUnavailableError
from tenants.facets import registered
from tenants.models import DatabaseServer, Tenant, TenantCredential
from tenants.planes import Plane
from tenants.provisioning import PROVISIONERS, sqlite
from tenants.secrets import KeyName, seal, unseal

KINDS = ("configuration", "secrets", "server", "grants", "files", "identities", "cross-reads", "facets")
HAS_DATABASE = (Tenant.State.ACTIVE, Tenant.State.SUSPENDED, Tenant.State.MAINTENANCE)


@dataclass(frozen=True)
class Remark:
    """One thing that was found. ``about`` is a tenant's slug, a server's name or a part of the installation."""

    kind: str
    about: str
    sentence: str


@dataclass
class Report:
    checked: Counter[str] = field(default_factory=Counter)
    cracks: list[Remark] = field(default_factory=list)
    unchecked: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    tenants: int = 0
    seconds: float = 0.0
    probed: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)  # a facet's value, and whose it is

    @property
    def is_ok(self) -> bool:
        return not self.cracks and not self.unchecked

    def add(self, kind: str, about: str, faults: Iterable[str | None]) -> None:
        """A check for each fault and each ``None`` in its place, or the one that found nothing at all."""
        found = list(faults)
        self.checked[kind] += len(found) or 1
        self.cracks += [Remark(kind, about, fault) for fault in found if fault is not None]

    def warn(self, kind: str, about: str, sentences: Iterable[str]) -> None:
        self.warnings += [Remark(kind, about, sentence) for sentence in sentences]

    def skip(self, kind: str, about: str, reason: object) -> None:
        self.unchecked.append(Remark(kind, about, str(reason) or type(reason).__name__))

    @contextmanager
    def attempt(self, kind: str, about: str) -> Iterator[None]:
        """What keeps a check from being made is a remark, whatever it is."""
        try:
            yield
        except Exception as error:
            self.skip(kind, about, error)


@dataclass(frozen=True)
class _Tenant:
    """As it was read from control at the start: what control holds of it is not asked for in another plane."""

    row: Tenant
    slug: str
    alias: str
    state: str
    credentials: list[TenantCredential]
    sealed_keys: dict[int, str]

    @classmethod
    def of(cls, row: Tenant) -> "_Tenant":
        keys = {key.number: key.sealed_key for key in row.keys.all()}
        return cls(row, row.slug, row.alias, row.state, list(row.credentials.all()), keys)

    @property
    def has_database(self) -> bool:
        return self.state in HAS_DATABASE

    def binding(self) -> Binding:
        return maintenance_context(self.row) if self.state == Tenant.State.MAINTENANCE else fleet_context(self.row)


def check_isolation() -> Report:
    """
    Call it where nothing or control is bound. A tenant whose database proves to be another's goes into maintenance,
    as with whoever connects to it next; nothing else is changed.
    """
    report, started_at = Report(), time.monotonic()
    with control_plane():
        tenants: dict[int, list[_Tenant]] = {}
        for row in Tenant.objects.exclude(state=Tenant.State.DELETED).prefetch_related("credentials", "keys"):
            tenants.setdefault(row.server_id, []).append(_Tenant.of(row))
        servers = list(DatabaseServer.objects.order_by("name"))
        _check_configuration(report)
        _check_facets(report, "control")
    everybody = [tenant for those in tenants.values() for tenant in those]
    _check_secrets(report, everybody)
    for server in servers:
        _check_server(report, server, tenants.get(server.pk, []))
    report.tenants = sum(tenant.has_database for tenant in everybody)
    report.seconds = time.monotonic() - started_at
    return report


def _check_configuration(report: Report) -> None:
    """Silenced checks too: what would undo isolation does so whether it is said or not."""
    found = checks.run_checks(tags=["tenants"])
    report.checked["configuration"] = sum("tenants" in check.tags for check in check_registry.get_checks())
    for message in found:
        remarks = report.cracks if message.level >= checks.ERROR else report.warnings
        remarks.append(Remark("configuration", "settings", f"{message.id}: {message.msg}"))
    control = settings.DATABASES[Plane.CONTROL]
    if control["ENGINE"].endswith("sqlite"):
        with report.attempt("files", "control"):
            report.add("files", "control", sqlite.file_faults(Path(control["NAME"])))


def _check_facets(report: Report, about: str) -> None:
    """What is ambient here is nobody's else. Inside the binding; control has not all of it."""
    for facet in registered():
        try:
            owner = report.probed.setdefault((facet.name, facet.probe()), about)
        except Exception as error:
            if about != Plane.CONTROL:
                report.skip("facets", about, f"{facet.name}: {error}")
        else:
            report.add("facets", about, [f"{facet.name}: it has the same as {owner}"] if owner != about else [])


def _check_secrets(report: Report, tenants: list[_Tenant]) -> None:
    """Each opens under its own key, for its own place, and no two tenants have the same."""
    needed = sorted({key for tenant in tenants for _, key, _ in _secrets_of(tenant)})
    at_hand = [key for key in needed if _is_at_hand(report, key)]
    owners: dict[tuple[str, str], str] = {}
    for tenant in tenants:
        if tenant.has_database and not tenant.sealed_keys:
            report.add("secrets", tenant.slug, ["it has no signing key"])
        for what, key, unseal_it in _secrets_of(tenant):
            if key in at_hand:
                try:
                    owner = owners.setdefault((what, unseal_it()), tenant.slug)
                except SecretError as error:
                    report.add("secrets", tenant.slug, [str(error)])
                else:
                    shared = owner != tenant.slug
                    report.add("secrets", tenant.slug, [f"it has the same {what} as {owner}"] if shared else [])
        for each in tenant.credentials:
            owner = owners.setdefault((f"account at server {tenant.row.server_id}", each.user), tenant.slug)
            if owner != tenant.slug:
                report.add("secrets", tenant.slug, [f"it has the same account {each.user} as {owner}"])


def _is_at_hand(report: Report, name: KeyName) -> bool:
    try:
        seal("", key=name, tenant="check_isolation", field="nothing", version=1)
    except SecretError as error:
        report.skip("secrets", f"{name} key", error)
        return False
    return True


def _secrets_of(tenant: _Tenant) -> Iterator[tuple[str, KeyName, Callable[[], str]]]:
    """What each is called, the key that it is sealed under, and how to open it."""

    def signing_key(number: int, sealed: str) -> Callable[[], str]:
        return lambda: unseal(sealed, key="runtime", tenant=tenant.row.pk, field="signing_key", version=number)

    for number, sealed in tenant.sealed_keys.items():
        yield "signing key", "runtime", signing_key(number, sealed)
    for each in tenant.credentials:
        yield "database password", TenantCredential.SEALED_UNDER[each.account], each.unseal_password


def _check_server(report: Report, server: DatabaseServer, tenants: list[_Tenant]) -> None:
    provisioner = PROVISIONERS[server.engine]
    if not provisioner.HAS_ACCOUNTS:
        _check_files(report, server, tenants)
    else:
        try:
            with server_plane(server):
                _check_as_administrator(report, server, provisioner, tenants)
        except SecretError as error:
            report.skip("server", server.name, f"{error} Nothing that needs its administrator is checked.")
        except DatabaseError as error:
            report.skip("server", server.name, error)
            if _is_away(provisioner, error):
                return
    _check_tenants(report, server, provisioner, [tenant for tenant in tenants if tenant.has_database])


def _check_as_administrator(report: Report, server: DatabaseServer, provisioner: Any, tenants: list[_Tenant]) -> None:
    try:
        provisioner.require_safe_server()
    except ProvisioningError as error:
        report.add("server", server.name, [str(error)])
    else:
        report.add("server", server.name, [])
    users = {credential.user for tenant in tenants for credential in tenant.credentials}
    accounts, databases = provisioner.orphans({tenant.alias for tenant in tenants}, users)
    report.add("server", server.name, [f"the account {account} is no tenant's" for account in accounts])
    report.warn("server", server.name, [f"the database {database} is no tenant's" for database in databases])
    for tenant in tenants:
        if tenant.has_database:
            for credential in tenant.credentials:
                report.add("grants", tenant.slug, provisioner.account_faults(tenant.alias, credential))
            report.add("grants", tenant.slug, provisioner.objects_beside_tables(tenant.alias))
            report.add("identities", tenant.slug, provisioner.identity_faults(tenant.alias))


def _check_files(report: Report, server: DatabaseServer, tenants: list[_Tenant]) -> None:
    with report.attempt("files", server.name):
        report.add("files", server.name, sqlite.directory_faults())
        files = sqlite.orphan_files({tenant.alias for tenant in tenants})
        report.warn("files", server.name, [f"the file {file} is no tenant's" for file in files])
    owners: dict[tuple[int, int], str] = {}
    for tenant in tenants:
        if tenant.has_database:
            path = sqlite.path_of(tenant.alias)
            with report.attempt("files", tenant.slug):
                report.add("files", tenant.slug, sqlite.file_faults(path))
                found = path.stat()
                owner = owners.setdefault((found.st_dev, found.st_ino), tenant.slug)
                report.add("files", tenant.slug, [f"its file is {owner}'s"] if owner != tenant.slug else [])


def _check_tenants(report: Report, server: DatabaseServer, provisioner: Any, tenants: list[_Tenant]) -> None:
    control = complete(settings.DATABASES[Plane.CONTROL])
    control_name = str(control["NAME"]) if control["ENGINE"].endswith(server.engine) else None
    if control_name and tenants and (control["HOST"], control["PORT"]) == (server.host, server.port or ""):
        with report.attempt("cross-reads", "control"), control_plane():
            connection.ensure_connection()
            report.add("cross-reads", "control", provisioner.cross_read(connection.connection, tenants[0].alias, None))
    for number, tenant in enumerate(tenants):
        neighbour = tenants[number - 1].alias if len(tenants) > 1 else None
        try:
            with tenant.binding():
                _check_tenant(report, provisioner, tenant, neighbour, control_name)
        except Exception as error:
            if _is_away(provisioner, error):  # to wait for it once more for each tenant would take minutes
                left = len(tenants) - number
                report.skip("identities", server.name, f"{error}: {left} tenants of this server are unchecked")
                return
            report.skip("identities", tenant.slug, error)


def _check_tenant(
    report: Report, provisioner: Any, tenant: _Tenant, neighbour: str | None, control: str | None
) -> None:
    """Inside its binding, as its runtime account, on a connection that is made now."""
    connection.close()
    try:
        connection.ensure_connection()  # reads the identity
    except DatabaseSilentError:
        raise  # which says nothing of this tenant's
    except TenantUnavailableError as error:
        return report.add("identities", tenant.slug, [str(error)])
    except DatabaseError as error:
        if error.args[0] not in provisioner.REFUSED:
            raise
        return report.add("identities", tenant.slug, [f"its own account is refused: {error}"])
    report.add("identities", tenant.slug, [] if provisioner.HAS_ACCOUNTS else provisioner.identity_faults(tenant.alias))
    if not any(crack.kind == "secrets" and crack.about == tenant.slug for crack in report.cracks):
        _check_facets(report, tenant.slug)
    # The driver's own handle: this asks what the database refuses, not what ours does.
    report.add("cross-reads", tenant.slug, provisioner.cross_read(connection.connection, neighbour, control))
    return None


def _is_away(provisioner: Any, error: Exception) -> bool:
    return bool(error.args) and error.args[0] in provisioner.UNREACHABLE
