from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password

from tenants.accounts.roles import is_allowed, is_allowed_anything
from tenants.planes import current, require_bound
from tenants.routers import require_same_database


class PlaneBackend(ModelBackend):
    """Users of the bound plane, with the rights of their role."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if current() is None:  # the log-in form of a tenant that does not exist: it takes as long, and fails
            make_password(password or "")
            return None
        return super().authenticate(request, username=username, password=password, **kwargs)

    def has_perm(self, user_obj, perm, obj=None):
        _require_own(user_obj)
        return user_obj.is_active and is_allowed(user_obj.role, perm)

    async def ahas_perm(self, user_obj, perm, obj=None):
        return await sync_to_async(self.has_perm)(user_obj, perm, obj)

    def has_module_perms(self, user_obj, app_label):
        _require_own(user_obj)
        return user_obj.is_active and is_allowed_anything(user_obj.role, app_label)

    async def ahas_module_perms(self, user_obj, app_label):
        return await sync_to_async(self.has_module_perms)(user_obj, app_label)

    # Django keeps what these find on the user, and would answer from there wherever it is asked again.

    def get_all_permissions(self, user_obj, obj=None):
        _require_own(user_obj)
        return super().get_all_permissions(user_obj, obj)

    def _get_permissions(self, user_obj, obj, from_name):
        _require_own(user_obj)
        return super()._get_permissions(user_obj, obj, from_name)

    async def _aget_permissions(self, user_obj, obj, from_name):
        _require_own(user_obj)
        return await super()._aget_permissions(user_obj, obj, from_name)


def _require_own(user) -> None:
    """A user of another tenant has no rights here, and one of this tenant none where it is not bound."""
    if hasattr(user, "_state"):  # visitors have none, and nothing may be bound for them
        require_same_database(user, require_bound(), "A right was asked of")
