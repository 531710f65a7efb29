"""What DRF learns of a request's user: the middleware has verified the token and bound its tenant already."""

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject
from rest_framework.authentication import BaseAuthentication

from tenants.exceptions import InvalidTokenError


class Member(SimpleLazyObject):
    """
    The user a verified token names. Read from the tenant's database when more than the key is asked for: a request
    need not cost a SELECT. Reading raises ``InvalidTokenError`` for a user who is gone or disabled.
    """

    is_authenticated = True
    is_anonymous = False

    def __init__(self, user_id: str):
        super().__init__(lambda: _load(user_id))
        self.__dict__["pk"] = self.__dict__["id"] = UUID(user_id)

    def __bool__(self) -> bool:
        return True


def _load(user_id: str) -> Any:
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise InvalidTokenError("The token's user is gone or disabled.")
    return user


class PlaneAuthentication(BaseAuthentication):
    def authenticate(self, request):
        claims = getattr(request._request, "claims", None)
        return None if claims is None else (Member(claims["sub"]), claims)

    def authenticate_header(self, request):
        return "Bearer"
