"""
What each process knows of the tenants: read from control before a binding, kept fresh, carried in the binding.

Bounded. A change that another process makes is seen within ``FRESH_SECONDS`` of the next binding: one SELECT a second
asks which tenants changed, and those are forgotten here. With it come the operators who may act in tenants.
"""

import hmac
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import Subquery
from django.utils.functional import cached_property

from tenants.binding import control_plane
from tenants.connections import complete
from tenants.exceptions import TenantNotFoundError, TenantUnavailableError, WrongTenantError
from tenants.planes import Account, TenantSnapshot, is_in_event_loop
from tenants.provisioning import PROVISIONERS, Server
from tenants.secrets import Secret, unseal

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
STALE_SECONDS = 2.0  # in an event loop, where plain ``with`` cannot read, an entry older than this is not used
CAPACITY = 10_000


class SealedKey(NamedTuple):
    sealed: str
    signs_from: float  # seconds since the epoch
    expires_at: float


@dataclass(frozen=True)
class TenantRecord:
    """A tenant with what its connections and tokens need. Sealed until first used."""

    snapshot: TenantSnapshot
    alias: str
    server: Server
    sealed_credentials: dict[str, Any]
    sealed_keys: dict[int, SealedKey]

    @cached_property
    def signing_keys(self) -> dict[int, Secret]:
        """By number, those too that do not sign yet or verify no longer."""
        return {
            number: unseal(key.sealed, key="runtime", tenant=self.snapshot.id, field="signing_key", version=number)
            for number, key in sorted(self.sealed_keys.items())
        }

    @property
    def signing_number(self) -> int:
        """Of the key that signs now; the oldest always may: this machine's clock may be behind that of its maker."""
        now = time.time()
        started = [number for number, key in self.sealed_keys.items() if key.signs_from <= now]
        return max(started, default=min(self.sealed_keys))

    def verifies(self, number: int) -> bool:
        return number in self.sealed_keys and time.time() < self.sealed_keys[number].expires_at

    def derived_key(self, number: int, purpose: str) -> bytes:
        """
        Tells neither the key that it is made from nor that of another purpose, and is another for each generation of
        the database: what was signed before a restore does not count after it.
        """
        text = f"bulkhead {purpose} 1, generation {self.snapshot.generation}"
        return hmac.digest(bytes.fromhex(self.signing_keys[number]), text.encode(), "sha256")

    @property
    def django_keys(self) -> tuple[Secret, tuple[Secret, ...]]:
        """``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` inside this tenant."""
        signs = self.signing_number
        others = [number for number in sorted(self.sealed_keys) if number != signs and self.verifies(number)]
        newest, *rest = (Secret(self.derived_key(number, "django").hex()) for number in (signs, *others))
        return newest, tuple(rest)

    @cached_property
    def runtime_database(self) -> dict[str, Any]:
        return self.database("runtime")

    def database(self, account: Account) -> dict[str, Any]:
        credential = self.sealed_credentials.get(account)
        return complete(PROVISIONERS[self.server.engine].database_settings(self.server, self.alias, credential))

    def refuse_database(self) -> None:
        """What answers in its database's place is another: nobody is served until an operator has seen to it."""
        logger.critical("The database of tenant %s (%s) is not its own", self.snapshot.slug, self.alias)
        Tenant, Event = apps.get_model("tenants", "Tenant"), apps.get_model("tenants", "LifecycleEvent")
        served = {"pk": self.snapshot.id, "generation": self.snapshot.generation, "state": "active"}
        with control_plane(), transaction.atomic():
            revisions = apps.get_model("tenants", "RegistryRevision")
            if revisions.publish(Tenant.objects.filter(**served), state="maintenance"):
                Event.objects.create(tenant_id=self.snapshot.id, action="identity", step="maintenance")


class Registry:
    def __init__(self):
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self.clear()

    def after_fork(self) -> None:
        """
        In the child: what its parent knew, as old as it is. Another thread of the parent may have held the locks; and
        been about to write, if it was this one.
        """
        is_whole = not self._lock.locked()
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        if not is_whole:
            self.clear()

    def clear(self) -> None:
        with self._lock:
            self._forget_all()
            self._revision = -1
            self._recorded: int | None = -1  # the last record of the operators' audit
            self.operators: frozenset[UUID] = frozenset()  # with accounts that are not disabled
            self._halts: tuple[tuple[UUID | None, str, bool], ...] = ()
            self._polled_at = self._failed_at = -1e9
            self._is_expired = True

    def expire(self) -> None:
        """This process has changed something: the next binding looks at once."""
        self._is_expired = True

    def get(self, key: UUID | str) -> TenantRecord:
        """
        The tenant with this id or slug, whatever its state, no older than ``FRESH_SECONDS``.

        Raises ``TenantNotFoundError``, and ``TenantUnavailableError`` when control cannot be read. In an event loop
        it answers only from what it has and raises ``SynchronousOnlyOperation`` otherwise.
        """
        if is_in_event_loop():
            record = self._cached(key) if self._age() < STALE_SECONDS else None
            if record is None:
                raise SynchronousOnlyOperation(
                    "This process has not read that tenant lately, and cannot inside an event loop: "
                    "use `async with` instead of `with`."
                )
            return record
        try:
            self._poll()
            return self._cached(key) or self._load(key)
        except DatabaseError as error:
            raise TenantUnavailableError("The control database cannot be read.") from error

    def look(self) -> None:
        """For what must not act on anything older. Raises ``TenantUnavailableError``."""
        try:
            with self._polling:
                self._read_changes()
        except DatabaseError as error:
            raise TenantUnavailableError("The control database cannot be read.") from error

    def halts_of(self, tenant_id: UUID, running: bool = False) -> frozenset[str]:
        """The kinds of work that are not begun in this tenant; ``running``: those that are stopped, too."""
        return frozenset(
            kind for tenant, kind, stops in self._halts if tenant in (None, tenant_id) and (stops or not running)
        )

    def _age(self) -> float:
        return float("inf") if self._is_expired else time.monotonic() - self._polled_at

    def _cached(self, key: UUID | str) -> TenantRecord | None:
        with self._lock:
            tenant_id = self._ids.get(key) if isinstance(key, str) else key
            if tenant_id is None or tenant_id not in self._records:
                return None
            self._records.move_to_end(tenant_id)
            return self._records[tenant_id]

    def _poll(self) -> None:
        """One thread asks; the others go on with what is known, unless that is too old."""
        age = self._age()
        if age < FRESH_SECONDS or not self._polling.acquire(blocking=age >= STALE_SECONDS):
            return
        try:
            if self._age() >= FRESH_SECONDS:
                if time.monotonic() - self._failed_at < FRESH_SECONDS:  # those who waited do not each wait again
                    raise DatabaseError
                self._read_changes()
        finally:
            self._polling.release()

    def _read_changes(self) -> None:
        started_at = time.monotonic()
        self._is_expired, was_expired = False, self._is_expired  # before reading: what expires it meanwhile counts
        try:
            with _committed_control():
                revisions = apps.get_model("tenants", "RegistryRevision").objects
                # No account of an operator, and no halt, changes without its record.
                last_record = Subquery(apps.get_model("audit", "AuditHead").objects.values("number")[:1])
                newest, recorded = revisions.values_list("number", last_record).first() or (0, None)
                changed, operators, halts = [], self.operators, self._halts
                if recorded != self._recorded:
                    accounts = get_user_model()._default_manager.filter(is_active=True)
                    operators = frozenset(accounts.values_list("pk", flat=True))
                    rows = apps.get_model("tenants", "Halt").objects.values_list("tenant", "kind", "stops_running")
                    halts = tuple(rows)
                if 0 <= self._revision < newest:
                    tenants = apps.get_model("tenants", "Tenant").objects.filter(revision__gt=self._revision)
                    changed = list(tenants.values_list("pk", flat=True))
        except BaseException as error:
            self._is_expired |= was_expired
            if isinstance(error, DatabaseError):
                self._failed_at = time.monotonic()
            raise
        with self._lock:
            if newest < self._revision:  # control was restored from a copy
                self._forget_all()
            for tenant_id in changed:
                self._forget(tenant_id)
            self._revision, self._recorded = newest, recorded
            self.operators, self._halts = operators, halts
            self._polled_at = started_at

    def _load(self, key: UUID | str) -> TenantRecord:
        field = "slug" if isinstance(key, str) else "pk"
        unknown = TenantNotFoundError(f"There is no tenant {str(key)!a:.80}.")
        if not str(key).isascii():  # no slug; and a lone surrogate would not reach the database
            raise unknown
        with self._lock:
            revision = self._revision
        with _committed_control():
            Tenant = apps.get_model("tenants", "Tenant")
            tenant = Tenant.objects.select_related("server").filter(**{field: key}).first()
            if tenant is None:
                raise unknown
            record = TenantRecord(
                snapshot=TenantSnapshot(
                    tenant.pk,
                    tenant.slug,
                    tenant.name,
                    tenant.state,
                    tenant.generation,
                    MappingProxyType(tenant.limits),
                ),
                alias=tenant.alias,
                server=Server.of(tenant.server),
                sealed_credentials={each.account: each for each in tenant.credentials.order_by("version")},
                sealed_keys={each.number: _sealed_key(each) for each in tenant.keys.order_by("number")},
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

    def _forget_all(self) -> None:
        self._records: OrderedDict[UUID, TenantRecord] = OrderedDict()
        self._ids: dict[str, UUID] = {}

    def _forget(self, tenant_id: UUID) -> None:
        record = self._records.pop(tenant_id, None)
        if record is not None:
            self._ids.pop(record.snapshot.slug, None)


def _sealed_key(row: Any) -> SealedKey:
    expires_at = row.expires_at.timestamp() if row.expires_at else float("inf")
    return SealedKey(row.sealed_key, row.signs_from.timestamp(), expires_at)


@contextmanager
def _committed_control() -> Iterator[None]:
    """Control as everybody sees it: what a transaction of our own has changed may yet be rolled back."""
    with control_plane():
        if connection.in_atomic_block:
            raise WrongTenantError("A tenant was looked up inside an open transaction of the control plane.")
        yield


registry = Registry()
os.register_at_fork(after_in_child=registry.after_fork)
