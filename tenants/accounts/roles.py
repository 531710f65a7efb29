"""Who may do what, as ``settings.RIGHTS`` says. A permission is Django's ``app.action_model``."""

from collections.abc import Mapping

from django.conf import settings
from rest_framework.permissions import BasePermission

from tenants.planes import Plane, require_bound

ACTIONS = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "add", "PATCH": "change", "DELETE": "delete"}


def is_allowed(role: str, permission: str) -> bool:
    """
    In the bound plane, and refused if its table does not say so. Who has an account in control is an operator there,
    and nobody is one in a tenant, whatever role their row has.
    """
    app_label, _, codename = permission.partition(".")
    action, _, model_name = codename.partition("_")
    return _asked_as(role) in _rights().get(f"{app_label}.{model_name}", {}).get(action, ())


def is_allowed_anything(role: str, app_label: str) -> bool:
    return any(
        _asked_as(role) in roles
        for resource, actions in _rights().items()
        if resource.partition(".")[0] == app_label
        for roles in actions.values()
    )


def _rights() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    return settings.RIGHTS.get(require_bound().plane, {})


def _asked_as(role: str) -> str:
    return "operator" if require_bound().plane is Plane.CONTROL else role


class RolePermission(BasePermission):
    """
    A view names its ``resource``, and in ``actions`` what a method does to it when that is not the usual. One that
    names none is open to nobody.
    """

    def has_permission(self, request, view):
        if not request.user or not request.user.is_authenticated:
            return False
        if request.method not in view.allowed_methods:
            return True  # a method that is not there is answered 405, to everybody
        action = (ACTIONS | getattr(view, "actions", {})).get(request.method, "")
        app_label, _, model_name = getattr(view, "resource", "").partition(".")
        return request.user.has_perm(f"{app_label}.{action}_{model_name}")
