"""What may be tested, by whose word, and with which engines."""

from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from scans.addresses import AddressRefused, normalise_host
from scans.engines import ENGINES
from scans.engines.base import EngineInputError, from_json
from tenants.audit.rules import audited
from tenants.models import IdentifierField, TenantModel, TenantQuerySet
from tenants.versions import VersionedModel

INTRUSIVENESS = ["passive", "safe_active", "intrusive"]  # each permits those before it


def _validate_host(host: str) -> None:
    try:
        normalise_host(host)
    except AddressRefused as error:
        raise ValidationError(error.detail, code=error.reason_code) from None


def _validate_ports(ports: object) -> None:
    if not isinstance(ports, list) or not 1 <= len(ports) <= 100:
        raise ValidationError("List 1 to 100 ports.")
    if any(type(port) is not int or not 1 <= port <= 65535 for port in ports) or len(set(ports)) != len(ports):
        raise ValidationError("Ports are different whole numbers from 1 to 65535.")


def _validate_engines(engines: object) -> None:
    if not isinstance(engines, dict) or not engines:
        raise ValidationError("Name at least one engine, each with its options.")
    for name, options in engines.items():
        if name not in ENGINES:
            raise ValidationError(f"There is no engine {name!r:.40}. There are: {', '.join(ENGINES)}.")
        try:
            from_json(ENGINES[name].Options, options)
        except EngineInputError as error:
            raise ValidationError(f"{name}: {error}") from None


@audited(unrecorded=("version",))
class Target(VersionedModel, TenantModel):
    """A host, and the ports of it that may be touched."""

    name = models.CharField(max_length=120)
    host = IdentifierField(max_length=253, validators=[_validate_host], help_text="a name or an address, no URL")
    ports = models.JSONField(validators=[_validate_ports], help_text="the only ports that a scan touches")
    ca_pem = models.TextField(blank=True, max_length=20_000, help_text="certificates of an authority to trust here")
    is_active = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return self.name


class AuthorizationQuerySet(TenantQuerySet):
    def valid(self) -> "AuthorizationQuerySet":
        """By the database's clock."""
        return self.filter(revoked_at=None, expires_at__gt=Now())


@audited()
class Authorization(TenantModel):
    """Proof that a target may be tested, until when and how intrusively."""

    class Method(models.TextChoices):
        STATEMENT = "statement"

    LONGEST = timedelta(days=90)

    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="authorizations")
    method = models.CharField(max_length=12, choices=Method, default=Method.STATEMENT)
    statement = models.TextField(max_length=4000, help_text="who allows the tests, and on what ground")
    intrusiveness = models.CharField(
        max_length=12, choices=[(name, name) for name in INTRUSIVENESS[:2]], default="safe_active"
    )
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = AuthorizationQuerySet.as_manager()  # type: ignore[assignment]  # narrower than the base

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"{self.target} until {self.expires_at:%Y-%m-%d}"


@audited()
class ScanProfile(TenantModel):
    """Which engines with which options."""

    name = IdentifierField(max_length=64, unique=True)
    engines = models.JSONField(validators=[_validate_engines], help_text='{"http": {}, "tls": {}}')

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name

    @property
    def intrusiveness(self) -> str:
        return max((ENGINES[name].INTRUSIVENESS for name in self.engines), key=INTRUSIVENESS.index)
