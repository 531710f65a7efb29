"""What DRF learns of a request's user: the middleware has verified the token and bound its tenant already."""

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject
from rest_framework.authentication import BaseAuthentication

from tenants.accounts.api_keys import require_key_stands
from tenants.accounts.logins import require_standing
from tenants.accounts.roles import is_allowed
from tenants.exceptions import InvalidTokenError
from tenants.halts import require_still_served
from tenants.kept import require_here
from tenants.planes import here


class Member(SimpleLazyObject):
    """
    The user a verified token names, whose log-in stands: read from the tenant's database when first asked for more
    than their key and role. Kept and first asked elsewhere, it raises ``WrongTenantError``; ``InvalidTokenError`` when
    they are gone meanwhile.
    """

    is_anonymous = False

    def __init__(self, user_id: str, role: str):
        origin = here()
        super().__init__(lambda: _load(user_id, origin))
        self.__dict__["pk"] = self.__dict__["id"] = UUID(user_id)
        self.__dict__["role"] = role
        self.__dict__["_origin"] = origin

    @property
    def is_authenticated(self) -> bool:
        require_here(self._origin, "A member of")
        return True

    is_active = is_authenticated

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """By the role that the request has, without reading the user."""
        return self.is_authenticated and is_allowed(self.role, perm)

    def __bool__(self) -> bool:
        return True


def _load(user_id: str, origin: str | None) -> Any:
    require_here(origin, "A member of")
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise InvalidTokenError("The token's user is gone or disabled.")
    return user


class PlaneAuthentication(BaseAuthentication):
    def authenticate(self, request):
        claims = getattr(request._request, "claims", None)
        return None if claims is None else (Member(claims["sub"], request._request.role), claims)

    def authenticate_header(self, request):
        return "Bearer"


def require_open(claims: dict) -> None:
    """
    What a token or key has opened is open still, in the bound tenant: for what goes on after its request was let in.
    Raises ``InvalidTokenError``, or ``TenantSuspendedError`` and its like.
    """
    require_still_served()
    if "api_key" in claims:
        require_key_stands(claims["api_key"])
    else:
        require_standing(claims, at_once=False)
