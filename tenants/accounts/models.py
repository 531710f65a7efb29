"""People. One model in both planes: an operator's row is in the control database, a member's in their tenant's."""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.audit.rules import audited
from tenants.exceptions import LastOwnerError
from tenants.models import IdentifierField, TenantModel, TenantQuerySet
from tenants.planes import Plane, require_bound
from tenants.versions import VersionedModel, VersionedQuerySet


class UserManager(BaseUserManager.from_queryset(VersionedQuerySet)):  # type: ignore[misc]  # a class made at import
    def create_user(self, username: str, password: str | None = None, **fields) -> "User":
        user = self.model(username=username, **fields)
        user.set_password(password)
        user.save(using=self._db, force_insert=True)
        return user

    def create_superuser(self, username: str, password: str | None = None, **fields) -> "User":
        """An operator under ``control_plane()``; an owner in a tenant, which knows no superusers but its owners."""
        return self.create_user(username, password, role=User.Role.OWNER, **fields)


@audited(secret=("password",), unrecorded=("last_login", "version"))
class User(VersionedModel, AbstractBaseUser, PermissionsMixin):
    class Role(models.TextChoices):
        """What each may do: config/roles.py."""

        OWNER = "owner"
        MANAGER = "manager"
        TESTER = "tester"
        READER = "reader"
        AUDITOR = "auditor"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    username = IdentifierField(max_length=64, unique=True, validators=[ASCIIUsernameValidator()])
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=8, choices=Role, default=Role.TESTER)
    is_active = models.BooleanField(default=True)
    is_invited = models.BooleanField(default=False, editable=False, help_text="Has not chosen a password yet.")
    is_superuser = None  # a right beside the roles
    date_joined = models.DateTimeField(auto_now_add=True)
    operator = models.UUIDField(
        null=True, unique=True, editable=False, help_text="Whom of control this row stands for, in a tenant."
    )

    objects: ClassVar[Any] = UserManager()
    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    UNREAD: ClassVar[frozenset[str]] = frozenset({"password", "last_login"})

    class Meta:
        # Whatever door looks for an active account finds none: an operator comes in through a support access alone.
        constraints = [
            models.CheckConstraint(condition=Q(operator=None) | Q(is_active=False), name="an_operator_is_no_member")
        ]

    @classmethod
    def from_db(cls, db, field_names, values):
        user = super().from_db(db, field_names, values)
        user._as_read = user._columns()
        return user

    def save(self, *args, update_fields=None, **kwargs):
        """
        In the same transaction, the log-ins of an account whose password changed or that was disabled end.

        Raises ``LastOwnerError`` when a tenant would be left without an active owner.

        Django's own password forms, and its ``changepassword``, save the whole row when they have set a password: if it
        is all that was changed, it alone is written.
        """
        before = self.__dict__.get("_as_read", {})
        if update_fields is None and not self._state.adding and not kwargs.get("force_insert"):
            if [name for name, value in self._columns().items() if before.get(name) != value] != ["password"]:
                super().save(*args, **kwargs)  # refused
                return
            update_fields = ["password"]
        with transaction.atomic():
            if {"role", "is_active"} & set(update_fields or ()):
                _require_an_owner_besides(self)
            super().save(*args, update_fields=update_fields, **kwargs)
            for name, reason in ENDING_LOG_INS.items():
                if name in before and before[name] != self.__dict__.get(name):
                    self.logins.end(reason)
        self._as_read = self._columns()

    def refresh_from_db(self, using=None, fields=None, **kwargs):
        super().refresh_from_db(using=using, fields=fields, **kwargs)
        now = self._columns()
        self._as_read = self.__dict__.get("_as_read", {}) | {name: now[name] for name in fields or now if name in now}

    def _columns(self) -> dict[str, Any]:
        names = {field.attname for field in self._meta.concrete_fields} - {"version"}
        return {name: self.__dict__.get(name) for name in names}

    @property
    def is_staff(self) -> bool:
        """May use the admin site of their plane: everybody who has an account in it."""
        return self.is_active


def is_last_owner(user: User) -> bool:
    """Of the bound tenant, as its database has it now; in a transaction it stays so."""
    owners = User.objects.filter(role=User.Role.OWNER, is_active=True).order_by("pk")
    if transaction.get_connection().in_atomic_block:
        owners = owners.select_for_update()
    return list(owners.values_list("pk", flat=True)) == [user.pk]


def _require_an_owner_besides(user: User) -> None:
    """Locks the owners' rows, so that of two who leave at once the second finds that the first has left."""
    remains = user.role == User.Role.OWNER and user.is_active
    if not remains and require_bound().plane is Plane.TENANT and is_last_owner(user):
        raise LastOwnerError(f"{user.username} is the only active owner.")


def last_moment():
    return timezone.now() + settings.BULKHEAD_LOGIN_LIFETIME


class LoginQuerySet(TenantQuerySet):
    def end(self, reason: "Login.Ending") -> int:
        """How many there were to end. Unsafe requests are refused from now on, others within two seconds."""
        return self.filter(ended_at=None).update(ended_at=timezone.now(), ending=reason)


class Login(TenantModel):
    """
    What a member's tokens hang on: one log-in, and the chain of refresh tokens that follows from it, of which only the
    newest, numbered ``generation``, renews it.
    """

    class Ending(models.TextChoices):
        LOGGED_OUT = "logged_out"
        NEW_CREDENTIALS = "new_credentials"
        DISABLED = "disabled"
        REUSED = "reused"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="logins")
    generation = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(default=last_moment, help_text="However often it is renewed.")
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True)
    ending = models.CharField(max_length=16, choices=Ending, blank=True)

    objects: ClassVar[Any] = LoginQuerySet.as_manager()  # type: ignore[assignment]  # a narrower one

    def __str__(self):
        return f"{self.user_id} {self.created_at:%Y-%m-%d %H:%M}"


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


ENDING_LOG_INS = {"password": Login.Ending.NEW_CREDENTIALS, "is_active": Login.Ending.DISABLED}
