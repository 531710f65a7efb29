"""
What each process knows of the tenants: read from control before a binding, kept fresh, carried in the binding.

Bounded. A change that another process makes is seen within ``FRESH_SECONDS`` of the next binding: one SELECT a second
asks which tenants changed, and those are forgotten here.
"""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error as DatabaseError

from tenants.binding import control_plane, is_in_event_loop
from tenants.connections import complete
from tenants.exceptions import TenantNotFoundError, TenantUnavailableError
from tenants.planes import Account, TenantSnapshot
from tenants.provisioning import PROVISIONERS, Server
from tenants.secrets import Secret, unseal

FRESH_SECONDS = 1.0
STALE_SECONDS = 2.0  # in an event loop, where plain ``with`` cannot read, an entry older than this is not used
CAPACITY = 10_000


@dataclass(frozen=True)
class TenantRecord:
    """A tenant with what its connections and tokens need. Sealed until first used."""

    snapshot: TenantSnapshot
    alias: str
    server: Server
    sealed_credentials: dict[Account, Any]
    sealed_keys: dict[int, str]

    @cached_property
    def signing_keys(self) -> dict[int, Secret]:
        """By number; the highest signs."""
        return {
            number: unseal(sealed, key="runtime", tenant=self.snapshot.id, field="signing_key", version=number)
            for number, sealed in sorted(self.sealed_keys.items())
        }

    @cached_property
    def runtime_database(self) -> dict[str, Any]:
        return self.database("runtime")

    def database(self, account: Account) -> dict[str, Any]:
        credential = self.sealed_credentials.get(account)
        return complete(PROVISIONERS[self.server.engine].database_settings(self.server, self.alias, credential))


class Registry:
    def __init__(self):
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._records: OrderedDict[UUID, TenantRecord] = OrderedDict()
            self._ids: dict[str, UUID] = {}
            self._revision = -1
            self._polled_at = -1e9

    def expire(self) -> None:
        """This process has changed something: the next binding looks at once."""
        self._polled_at = -1e9

    def get(self, key: UUID | str) -> TenantRecord:
        """
        The tenant with this id or slug, whatever its state, no older than ``FRESH_SECONDS``.

        Raises ``TenantNotFoundError``, and ``TenantUnavailableError`` when control cannot be read. In an event loop
        it answers only from what it has and raises ``SynchronousOnlyOperation`` otherwise.
        """
        in_loop = is_in_event_loop()
        try:
            if not in_loop:
                self._poll()
            record = self._cached(key, STALE_SECONDS if in_loop else float("inf"))
            if record is None:
                if in_loop:
                    raise SynchronousOnlyOperation(
                        "This process has not read that tenant lately, and cannot inside an event loop: "
                        "use `async with` instead of `with`."
                    )
                record = self._load(key)
        except DatabaseError as error:
            raise TenantUnavailableError("The control database cannot be read.") from error
        return record

    def _cached(self, key: UUID | str, max_age: float) -> TenantRecord | None:
        with self._lock:
            if time.monotonic() - self._polled_at > max_age:
                return None
            tenant_id = self._ids.get(key) if isinstance(key, str) else key
            record = self._records.get(tenant_id)
            if record is not None:
                self._records.move_to_end(tenant_id)
            return record

    def _poll(self) -> None:
        if time.monotonic() - self._polled_at < FRESH_SECONDS or not self._polling.acquire(blocking=False):
            return
        try:
            started_at = time.monotonic()
            newest, changed = self._read_changes()
            with self._lock:
                if self._revision == -1:
                    self._records.clear()
                for tenant_id in changed:
                    self._forget(tenant_id)
                self._revision = newest
                self._polled_at = started_at
        finally:
            self._polling.release()

    def _read_changes(self) -> tuple[int, list[UUID]]:
        with control_plane():
            newest = apps.get_model("tenants", "RegistryRevision").objects.values_list("number", flat=True).first() or 0
            if self._revision in (-1, newest):
                return newest, []
            tenants = apps.get_model("tenants", "Tenant").objects.filter(revision__gt=self._revision)
            return newest, list(tenants.values_list("pk", flat=True))

    def _load(self, key: UUID | str) -> TenantRecord:
        field = "slug" if isinstance(key, str) else "pk"
        with self._lock:
            revision = self._revision
        with control_plane():
            Tenant = apps.get_model("tenants", "Tenant")
            tenant = Tenant.objects.select_related("server").filter(**{field: key}).first()
            if tenant is None:
                raise TenantNotFoundError(f"There is no tenant {str(key)!r:.80}.")
            record = TenantRecord(
                snapshot=TenantSnapshot(
                    tenant.pk, tenant.slug, tenant.name, tenant.state, tenant.generation, MappingProxyType(tenant.limits)
                ),
                alias=tenant.alias,
                server=Server.of(tenant.server),
                sealed_credentials={each.account: each for each in tenant.credentials.order_by("version")},
                sealed_keys=dict(tenant.keys.order_by("number").values_list("number", "sealed_key")),
            )
        with self._lock:
            # What changed while this was read is not kept: the poll that told of it has come and gone.
            if revision == self._revision:
                self._forget(tenant.pk)
                self._records[tenant.pk] = record
                self._ids[tenant.slug] = tenant.pk
                if len(self._records) > CAPACITY:
                    self._forget(next(iter(self._records)))
        return record

    def _forget(self, tenant_id: UUID) -> None:
        record = self._records.pop(tenant_id, None)
        if record is not None:
            self._ids.pop(record.snapshot.slug, None)


registry = Registry()
