"""How people get in, and what is remembered of it: passwords that were tried, links, keys, codes, grants, providers."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from tenants.accounts.models.people import User
from tenants.audit.rules import audited
from tenants.models import IdentifierField, TenantModel, TenantQuerySet
from tenants.planes import here
from tenants.versions import VersionedModel


class Tries(TenantModel):
    """How often a password was tried in vain for an account, or from an address. Written by tenants.accounts.tries."""

    class Kind(models.TextChoices):
        ACCOUNT = "account"
        ADDRESS = "address"
        OLD_PASSWORD = "old_password"  # noqa: S105
        OWN_CODE = "own_code"
        RESET = "reset"  # asked for, of an account
        RESET_FROM = "reset_from"  # or from an address
        UNKNOWN = "unknown"  # of either, at tenants that are not there; in the control database

    kind = models.CharField(max_length=12, choices=Kind, db_index=True)
    key = IdentifierField(max_length=64, unique=True, help_text="A keyed digest: what was tried stands nowhere.")
    failures = models.PositiveIntegerField(default=0)
    allowed_at = models.DateTimeField(help_text="When the next one may be tried.")
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self):
        return f"{self.kind} {self.key:.12}: {self.failures}"


class MailLinkQuerySet(TenantQuerySet):
    def end(self, reason: "MailLink.Ending") -> int:
        """How many there were to end."""
        return self.filter(ended_at=None).update(ended_at=timezone.now(), ending=reason, next_try_at=None)


class MailLink(TenantModel):
    """
    A link with which somebody chooses a password, and the mail that brings it: asked for in one process, sent by
    another. Who sends it makes its secret; here is a digest. Written by tenants.accounts.links.
    """

    class Purpose(models.TextChoices):
        INVITATION = "invitation"
        RESET = "reset"

    class Ending(models.TextChoices):
        USED = "used"
        WITHDRAWN = "withdrawn"
        REPLACED = "replaced"  # by a newer one
        UNDELIVERABLE = "undeliverable"

    purpose = models.CharField(max_length=10, choices=Purpose)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="links",
        null=True,
        help_text="None yet for a reset that was asked for in a name which nobody has looked up.",
    )
    sealed_name = models.TextField(blank=True)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True)
    digest = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    next_try_at = models.DateTimeField(null=True, default=timezone.now, db_index=True, help_text="To send it.")
    tries = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField(null=True, help_text="Its secret, for the last mail that was tried.")
    sent_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=13, choices=Ending, blank=True)

    objects: ClassVar[Any] = MailLinkQuerySet.as_manager()  # type: ignore[assignment]  # a narrower one

    def __str__(self):
        return f"{self.purpose} {self.created_at:%Y-%m-%d %H:%M}"


@audited(secret=("digest",), unrecorded=("last_used_at",))
class ApiKey(TenantModel):
    """
    What a program asks with in its member's name. The key itself is shown once and kept nowhere: its digest is, which
    says nothing about it, for it is random.
    """

    class Scope(models.TextChoices):
        READ = "read"
        FULL = "full"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = IdentifierField(
        max_length=12, unique=True, editable=False, help_text="Tells keys apart, and is no secret."
    )
    digest = models.CharField(max_length=64, editable=False)
    scope = models.CharField(max_length=4, choices=Scope, default=Scope.READ)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="To the minute.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"{self.name} ({self.prefix})"

    @property
    def role(self) -> str:
        """What it may do at most: its member's role, whatever that is now, or reading alone."""
        return self.user.role if self.scope == self.Scope.FULL else User.Role.READER


@audited(secret=("sealed_secret",), unrecorded=("last_step",))
class SecondFactor(TenantModel):
    """What a member's authenticator app computes its codes from: tenants.accounts.second_factor."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="second_factor")
    sealed_secret = models.TextField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True, blank=True, help_text="It is asked for from then on.")
    last_step = models.BigIntegerField(default=0, help_text="Of time, of the newest code that was used: none twice.")

    def __str__(self):
        return f"{self.user_id}"


@audited(secret=("digest",))
class RecoveryCode(TenantModel):
    """Opens once, in place of a code of the app. The code itself is shown once and kept nowhere."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self):
        return f"one of {self.user_id}"


class PasskeyQuerySet(TenantQuerySet):
    def standing(self) -> "PasskeyQuerySet":
        """Those that were registered in this database: in a copy, one that was removed would be back."""
        return self.filter(database=here())


@audited(unrecorded=("sign_count", "last_challenge", "last_used_at"))
class Passkey(TenantModel):
    """
    An authenticator's public key, which opens its member's account in place of password and code. Written by
    tenants.accounts.passkeys.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="passkeys")
    database = models.CharField(max_length=64, editable=False, help_text="In a copy it is nobody's.")
    name = models.CharField(max_length=80)
    credential_id = IdentifierField(max_length=340, editable=False)
    public_key = models.TextField(editable=False)
    sign_count = models.PositiveBigIntegerField(default=0, editable=False, help_text="As the authenticator says.")
    last_challenge = models.BigIntegerField(
        default=0, editable=False, help_text="When the newest that it answered was asked, in microseconds: none twice."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[Any] = PasskeyQuerySet.as_manager()  # type: ignore[assignment]  # a narrower one

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["database", "credential_id"], name="one_account_a_passkey")]

    def __str__(self):
        return self.name


@audited()
class SignInPolicy(TenantModel):
    """How the plane's people log in: one row, or none as long as nothing was decided."""

    NAME = "sign-in"

    name = IdentifierField(max_length=16, unique=True, default=NAME, editable=False)
    requires_second_factor = models.BooleanField(default=False)

    def __str__(self):
        return self.name


@audited(secret=("entry_digest",))
class SupportAccess(TenantModel):
    """
    That an operator may look into this tenant for a while, or work in it: asked for, granted by an owner, ended. What
    leads from one to the next is in tenants.accounts.support.
    """

    class Scope(models.TextChoices):
        READ = "read"
        FULL = "full"

    class Ending(models.TextChoices):
        REFUSED = "refused"
        WITHDRAWN = "withdrawn", "withdrawn by the operator"
        ENDED = "ended", "ended by an owner"
        EXPIRED = "expired"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="support_accesses")
    database = models.CharField(max_length=64, editable=False, help_text="In a copy it is nobody's.")
    reason = models.CharField(max_length=500)
    scope_asked = models.CharField(max_length=4, choices=Scope, default=Scope.READ)
    hours_asked = models.PositiveSmallIntegerField()
    asked_at = models.DateTimeField()
    scope = models.CharField(max_length=4, choices=Scope, blank=True)
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    granted_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(help_text="The request, or what was granted.")
    is_open = models.BooleanField(null=True, default=True, editable=False, help_text="Or unknown, for any number.")
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    ended_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=10, choices=Ending, blank=True)
    entry_digest = models.CharField(max_length=64, blank=True, editable=False)
    entry_expires_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "support accesses"
        constraints = [models.UniqueConstraint(fields=["user", "database", "is_open"], name="one_open_access")]

    def __str__(self):
        return f"{self.user_id} {self.asked_at:%Y-%m-%d %H:%M}"

    @property
    def state(self) -> str:
        """As of now: ``asked``, ``granted``, or how it ended."""
        if self.ending:
            return self.ending
        if self.database != self._state.db or self.expires_at <= timezone.now():
            return self.Ending.EXPIRED
        return "granted" if self.granted_at else "asked"


@audited(secret=("sealed_client_secret",), unrecorded=("version",))
class IdentityProvider(VersionedModel, TenantModel):
    """Where a tenant's members log in besides: one row, or none. tenants.accounts.oidc asks it."""

    name = IdentifierField(max_length=16, unique=True, default="provider", editable=False)
    is_active = models.BooleanField("in use", default=False)
    issuer = IdentifierField(max_length=250, help_text="Its URL, exactly as it calls itself.")
    client_id = models.CharField(max_length=250)
    sealed_client_secret = models.TextField(editable=False)
    endpoints = models.JSONField(default=dict, editable=False, help_text="As it said when it was last saved.")
    allowed_domains = models.TextField(max_length=1000, help_text="Of e-mail addresses, with spaces between.")
    makes_members = models.BooleanField(
        "new members at their first log-in", default=False, help_text="Otherwise an account has to wait for them."
    )
    role = models.CharField("role of new members", max_length=8, choices=User.Role, default=User.Role.READER)

    UNREAD: ClassVar[frozenset[str]] = frozenset({"sealed_client_secret", "endpoints"})

    def __str__(self):
        return self.issuer

    @property
    def domains(self) -> list[str]:
        return self.allowed_domains.split()


@audited()
class ExternalIdentity(TenantModel):
    """Whom a provider calls ``subject``: neither part is ever given to somebody else."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="external_identities")
    issuer = IdentifierField(max_length=250)
    subject = IdentifierField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="one_account_an_identity")]

    def __str__(self):
        return f"{self.subject} at {self.issuer}"
