"""People. One model in both planes: an operator's row is in the control database, a member's in their tenant's."""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.audit.rules import audited
from tenants.audit.trail import lock_head
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
    def from_db(cls, *args, **kwargs):
        user = super().from_db(*args, **kwargs)
        user._as_read = user._columns()
        return user

    def save(self, *args, update_fields=None, **kwargs):
        """
        In the same transaction, the log-ins of an account whose password changed or that was disabled end, and the
        sessions of the latter: those of a former password open nothing by themselves.

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
            if before.get("is_active") and not self.is_active:
                _end_sessions(self)
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
        lock_head()
        owners = owners.select_for_update()
    return list(owners.values_list("pk", flat=True)) == [user.pk]


def _require_an_owner_besides(user: User) -> None:
    """Locks the owners' rows, so that of two who leave at once the second finds that the first has left."""
    remains = user.role == User.Role.OWNER and user.is_active
    if not remains and require_bound().plane is Plane.TENANT and is_last_owner(user):
        raise LastOwnerError(f"{user.username} is the only active owner.")


def _end_sessions(user: User) -> None:
    """They would open again with the account. Looked for among all that have not expired: no row says whose it is."""
    unexpired = Session.objects.filter(expire_date__gt=timezone.now())
    keys = [each.session_key for each in unexpired if each.get_decoded().get(SESSION_KEY) == str(user.pk)]
    # Not deleted: Django would refuse the request of who disables themselves, as one whose session has gone.
    Session.objects.filter(session_key__in=keys).update(expire_date=timezone.now())


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


ENDING_LOG_INS = {"password": Login.Ending.NEW_CREDENTIALS, "is_active": Login.Ending.DISABLED}
