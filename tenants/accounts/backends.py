from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password

from tenants.accounts.roles import is_allowed
from tenants.planes import current


class PlaneBackend(ModelBackend):
    """Users of the bound plane, with the rights of their role."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if current() is None:  # the log-in form of a tenant that does not exist: it takes as long, and fails
            make_password(password or "")
            return None
        return super().authenticate(request, username=username, password=password, **kwargs)

    def has_perm(self, user_obj, perm, obj=None):
        return user_obj.is_active and is_allowed(user_obj.role, perm)

    def has_module_perms(self, user_obj, app_label):
        return user_obj.is_active and is_allowed(user_obj.role, f"{app_label}.view_")
