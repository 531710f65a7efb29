from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password

from tenants.accounts.roles import is_allowed, is_allowed_anything
from tenants.accounts.second_factor import GivenCode
from tenants.accounts.support import supporter
from tenants.accounts.tries import answer_in_step, count_log_in
from tenants.audit.trail import record
from tenants.context import control_plane
from tenants.planes import current, require_bound
from tenants.routers import require_same_database


class PlaneBackend(ModelBackend):
    """
    Users of the bound plane, with the rights of their role. Whatever door a password comes through, it is counted.

    ``authenticate`` raises ``TooManyTriesError``, and ``RuntimeError`` inside a transaction.
    """

    def authenticate(self, request, username=None, password=None, otp=None, **kwargs):
        """``otp``: a code of the second factor, from whoever has one. Without it, or with a wrong one, it fails."""
        if username is None or password is None:
            return None
        if current() is None:  # a tenant that does not exist: it takes as long, and fails
            with control_plane():
                count_log_in(request, username, unknown_tenant=getattr(request, "asked_tenant", ""))
                self._look_for(username)  # of a member's two times: who finds no tenant has asked control for it
                GivenCode("", otp or "")
                make_password(password)
                record("log_in_failed")
            answer_in_step(request)
            return None
        tried = count_log_in(request, username)
        code = GivenCode(username, otp or "")
        user = super().authenticate(request, username=username, password=password, **kwargs)
        if user is None or not code.opens():
            # Of whoever it was, so that it takes as long for an account that there is not.
            record("log_in_failed", self._look_for(username))
            answer_in_step(request)
            return None
        tried.succeeded()
        user.gave_code = code.is_needed
        return user

    def _look_for(self, username: str):
        return get_user_model().objects.filter(username=username).first()

    async def aauthenticate(self, request, username=None, password=None, **kwargs):
        """Django's own would not come by the count."""
        return await sync_to_async(self.authenticate)(request, username, password, **kwargs)

    def get_user(self, user_id):
        """Of a session: a member, or an operator for as long as their support access stands."""
        return super().get_user(user_id) or supporter(user_id)

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
