"""The control database: who the tenants are, where their data lives, and what happened to them."""

import re
import secrets
from collections.abc import Iterable
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.audit.rules import audited
from tenants.exceptions import InvalidSlugError
from tenants.registry import registry
from tenants.secrets import KeyName, Secret, seal, unseal

SLUG = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){1,31}")  # ASCII only: collations equate what looks alike
RESERVED_SLUGS = frozenset(
    [
        "admin",
        "api",
        "bulkhead",
        "control",
        "default",
        "docs",
        "healthz",
        "localhost",
        "login",
        "logout",
        "metrics",
        "mysql",
        "operator",
        "performance-schema",
        "readyz",
        "schema",
        "static",
        "support",
        "sys",
        "system",
        "tenant",
        "tenants",
        "test",
        "token",
        "www",
    ]
)


def validate_slug(slug: object) -> str:
    """
    ``slug`` itself, or ``InvalidSlugError``. Nothing is normalised: ``Acme`` is refused, not made ``acme``.
    """
    if not isinstance(slug, str) or not SLUG.fullmatch(slug):
        raise InvalidSlugError(
            f"{slug!r:.80} is no slug: 2 to 32 characters of a-z, 0-9 and single hyphens, a letter first."
        )
    if slug in RESERVED_SLUGS:
        raise InvalidSlugError(f"The slug {slug!r} is reserved.")
    return slug


def _validate_slug_field(slug: str) -> None:
    try:
        validate_slug(slug)
    except InvalidSlugError as error:
        raise ValidationError(str(error)) from None


class IdentifierField(models.CharField):
    """
    A string compared byte by byte. MariaDB's usual collation equates ``acme``, ``ACME`` and ``"acme "``; even its
    plain binary one ignores trailing spaces.
    """

    def db_parameters(self, connection):
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
        return parameters


class TenantQuerySet(models.QuerySet):
    """For querysets of one's own. What guards them guards every queryset, Django's included: tenants.querysets."""


TenantManager = models.Manager.from_queryset(TenantQuerySet, "TenantManager")


class TenantModel(models.Model):
    """
    The base of models that live in tenant databases. The key is a UUIDv7: the same number never means two tenants'
    rows, and keys sort by creation.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects: ClassVar[Any] = TenantManager()

    class Meta:
        abstract = True


@audited(secret=("sealed_admin_password",))
class DatabaseServer(models.Model):
    """Where tenants' databases can be made. ``sqlite``: a directory of files under the home directory."""

    class Engine(models.TextChoices):
        SQLITE = "sqlite"
        MYSQL = "mysql"

    name = IdentifierField(max_length=32, unique=True)
    engine = models.CharField(max_length=8, choices=Engine)
    host = models.CharField(max_length=255, blank=True)
    port = models.PositiveIntegerField(null=True, blank=True)
    admin_user = models.CharField(max_length=80, blank=True)
    sealed_admin_password = models.TextField(blank=True)
    accepts_tenants = models.BooleanField(default=True)
    capacity = models.PositiveIntegerField(default=10_000, help_text="tenants")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.name


class Tenant(models.Model):
    class State(models.TextChoices):
        PROVISIONING = "provisioning"
        ACTIVE = "active"
        MAINTENANCE = "maintenance"
        SUSPENDED = "suspended"
        DELETING = "deleting"
        DELETED = "deleted"

    # Which state leads to which; everything else is refused.
    NEXT_STATES = {
        State.PROVISIONING: {State.ACTIVE, State.DELETED},
        State.ACTIVE: {State.SUSPENDED, State.MAINTENANCE},
        State.MAINTENANCE: {State.ACTIVE, State.SUSPENDED},
        State.SUSPENDED: {State.ACTIVE, State.DELETING},
        State.DELETING: {State.DELETED},
        State.DELETED: set(),
    }

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = IdentifierField(max_length=32, unique=True, validators=[_validate_slug_field])
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=12, choices=State, default=State.PROVISIONING)
    generation = models.PositiveIntegerField(default=1)
    server = models.ForeignKey(DatabaseServer, on_delete=models.PROTECT, related_name="tenants")
    limits = models.JSONField(default=dict, blank=True)
    look_at = models.DateTimeField(null=True, db_index=True, help_text="A hint: when it may next have work to do.")
    revision = models.PositiveBigIntegerField(db_index=True, default=0, help_text="Registries re-read what is newer.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self):
        return self.slug

    @property
    def alias(self) -> str:
        """The database's name and Django alias: opaque, immutable, never used again."""
        return f"t_{self.id.hex}_g{self.generation}"


class TenantCredential(models.Model):
    """A database account of a tenant. ``migration`` accounts are sealed under the fleet key."""

    class Account(models.TextChoices):
        RUNTIME = "runtime"
        MIGRATION = "migration"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="credentials")
    account = models.CharField(max_length=9, choices=Account)
    version = models.PositiveIntegerField(default=1)
    user = models.CharField(max_length=32)
    sealed_password = models.TextField()

    SEALED_UNDER: ClassVar[dict[str, KeyName]] = {Account.RUNTIME: "runtime", Account.MIGRATION: "fleet"}

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "account", "version"], name="one_credential_a_version")
        ]

    def unseal_password(self) -> Secret:
        """Raises ``SecretError``, also in processes that do not load the key it is sealed under."""
        return unseal(
            self.sealed_password,
            key=self.SEALED_UNDER[self.account],
            tenant=self.tenant_id,
            field=f"{self.account}_password",
            version=self.version,
        )


class TenantKey(models.Model):
    """
    A key that signs a tenant's tokens and jobs; ``number`` stands in a token's ``kid``. It is known everywhere before
    it signs, and after the next one signs it verifies until it expires.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    number = models.PositiveIntegerField()
    sealed_key = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    signs_from = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="one_key_a_number")]

    @classmethod
    def make(cls, tenant: Tenant, number: int, **fields) -> "TenantKey":
        sealed = seal(secrets.token_hex(32), key="runtime", tenant=tenant.pk, field="signing_key", version=number)
        return cls.objects.create(tenant=tenant, number=number, sealed_key=sealed, **fields)


class LifecycleEvent(models.Model):
    """The journal: what was asked of a tenant, and each step that was done of it, so that it can be resumed."""

    class Action(models.TextChoices):
        CREATE = "create"
        MIGRATE = "migrate"
        SUSPEND = "suspend"
        RESUME = "resume"
        ROTATE = "rotate"
        IDENTITY = "identity"  # what answered for its database was another

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="events")
    action = models.CharField(max_length=8, choices=Action)
    step = models.CharField(max_length=32)
    detail = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return f"{self.tenant_id} {self.action} {self.step}"


@audited()
class Halt(models.Model):
    """Work of this kind is not begun, in one tenant or in all; and stopped, where that is said."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, related_name="halts")
    kind = IdentifierField(max_length=32, blank=True, help_text="empty: any")
    stops_running = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"{self.kind or 'everything'} in {self.tenant or 'all tenants'}"


class AuditAnchor(models.Model):
    """Up to where a tenant's audit was verified, where its own accounts cannot write: see tenants.audit."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="audit_anchor")
    number = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)
    verified_at = models.DateTimeField(auto_now=True)

    def __str__(self):
        return f"{self.tenant_id} {self.number}"


class RegistryRevision(models.Model):
    """
    One row, whose lock orders all changes that registries must hear of: a change that commits later has the higher
    number, so that reading "what is newer than I have seen" misses none.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    @classmethod
    def publish(cls, tenants: "models.QuerySet[Tenant] | Iterable[Tenant]", **changes) -> int:
        """
        ``tenants.update(**changes)`` with a new revision; the number of rows changed. Call it inside ``atomic()``.
        """
        if not isinstance(tenants, models.QuerySet):
            tenants = Tenant.objects.filter(pk__in=[tenant.pk for tenant in tenants])
        cls.objects.get_or_create(pk=1)
        cls.objects.filter(pk=1).update(number=F("number") + 1)
        number = cls.objects.values_list("number", flat=True).get(pk=1)
        transaction.on_commit(registry.expire)
        return tenants.update(revision=number, **changes)


from tenants.notes import Dispatcher, TenantLoad  # noqa: E402, F401  models of this app, after what they refer to
