"""People. One model in both planes: an operator's row is in the control database, a member's in their tenant's."""

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.db import models
from uuid_utils.compat import uuid7

from tenants.models import IdentifierField


class UserManager(BaseUserManager["User"]):
    def create_user(self, username: str, password: str | None = None, **fields) -> "User":
        user = self.model(username=username, **fields)
        user.set_password(password)
        user.save(using=self._db, force_insert=True)
        return user

    def create_superuser(self, username: str, password: str | None = None, **fields) -> "User":
        """An operator under ``control_plane()``; an owner in a tenant, which knows no superusers but its owners."""
        return self.create_user(username, password, role=User.Role.OWNER, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    class Role(models.TextChoices):
        OWNER = "owner"
        TESTER = "tester"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    username = IdentifierField(max_length=64, unique=True, validators=[ASCIIUsernameValidator()])
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=8, choices=Role, default=Role.TESTER)
    is_active = models.BooleanField(default=True)
    is_superuser = None  # a right beside the roles; owners have all rights that there are
    date_joined = models.DateTimeField(auto_now_add=True)

    objects = UserManager()
    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    @property
    def is_staff(self) -> bool:
        """May use the admin site of their plane: everybody who has an account in it."""
        return self.is_active
