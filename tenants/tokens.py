"""
Access and refresh tokens, each signed with its tenant's own key.

``kid`` names tenant and key number. It only says which key to try: no claim is believed before the signature holds
under that very tenant's key, and then every claim has to name the same tenant.
"""

import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import jwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from tenants.accounts.logins import open_login
from tenants.context import current_record
from tenants.exceptions import InvalidTokenError, TenantNotFoundError, WrongTenantError
from tenants.registry import TenantRecord, registry

ALGORITHM = "HS256"
AUDIENCE = "bulkhead-api"
MAX_BYTES = 2048
CLOCK_SKEW_SECONDS = 10  # between the machines that sign and those that verify
# Exactly these, of exactly these types: a number is no string, true is no number.
HEADER = {"alg": str, "typ": str, "kid": str}
CLAIMS = {"token_type": str, "exp": int, "iat": int, "jti": str, "sub": str, "tenant": str, "aud": str, "iss": str}
CLAIMS |= {"login": str, "generation": int}
KID = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,8})")
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TenantTokenBackend(TokenBackend):
    """Signs with the bound tenant's newest key; verifies with the key that ``kid`` names, bound or not."""

    def __init__(self):
        super().__init__(ALGORITHM)

    def encode(self, payload):
        record = current_record()
        number = record.signing_number
        tenant = record.snapshot.id.hex
        if payload.get("tenant", tenant) != tenant:
            raise WrongTenantError(f"Another tenant's token was about to be signed as one of {record.snapshot.slug!r}.")
        claims = payload | {"tenant": tenant, "aud": AUDIENCE, "iss": _issuer(tenant)}
        return jwt.encode(claims, _key(record, number), ALGORITHM, headers={"kid": f"{tenant}.{number}"})

    def decode(self, token, verify=True):
        """
        Raises ``TokenBackendError``; and ``SecretError`` when the key does not open, which is no fault of the token's.
        """
        try:
            record, number = _named_key(token)
            content = jwt.api_jws.decode(token, _key(record, number), [ALGORITHM])
            claims = _members(content, CLAIMS)
            _require_agreement(claims, record.snapshot.id.hex)
        except (jwt.InvalidTokenError, InvalidTokenError) as error:
            raise TokenBackendError("Token is invalid") from error
        return claims


class TenantAccessToken(AccessToken):
    _token_backend = TenantTokenBackend()


class TenantRefreshToken(RefreshToken):  # type: ignore[misc]  # simplejwt's own base classes disagree on for_user
    _token_backend = TenantTokenBackend()
    access_token_class = TenantAccessToken

    @classmethod
    def for_user(cls, user):
        """Opens a log-in, which its access tokens name too."""
        return cls.for_login(open_login(user))

    @property
    def access_token(self):
        """Which lives for no longer than this one."""
        token = super().access_token
        token["exp"] = min(token["exp"], self["exp"])
        return token

    @classmethod
    def for_login(cls, login):
        """The refresh token that is valid now; it lives for no longer than the log-in."""
        token = super().for_user(login.user)
        token["login"], token["generation"] = str(login.pk), login.generation
        token["exp"] = min(token["exp"], int(login.expires_at.timestamp()))
        return token


def verify(token: str, token_class: type = TenantAccessToken) -> dict:
    """
    The claims of a genuine token of that class; ``tenant_of`` says whose key signed it. Whether that tenant is served
    is for its binding to say.

    Raises ``InvalidTokenError``, which does not say why.
    """
    if token is None:  # of which simplejwt's classes make a new one
        raise InvalidTokenError("There is no token.")
    try:
        return token_class(token).payload
    except TokenError as error:
        raise InvalidTokenError("The token is not valid.") from error


def tenant_of(claims: dict) -> UUID:
    return UUID(claims["tenant"])


def _issuer(tenant: str) -> str:
    return f"bulkhead:{tenant}"


def _key(record: TenantRecord, number: int) -> bytes:
    return record.derived_key(number, "token")


def _named_key(token: object) -> tuple[TenantRecord, int]:
    """Which key a token asks to be tried with; everything unusual about its form is refused before any is."""
    if not isinstance(token, str) or len(token) > MAX_BYTES or not SHAPE.fullmatch(token):
        raise InvalidTokenError("The token has no token's form.")
    header = _members([_decoded(segment) for segment in token.split(".")][0], HEADER)
    kid = KID.fullmatch(header["kid"])
    if header["typ"] != "JWT" or kid is None:
        raise InvalidTokenError("The token's header is not one of ours.")
    try:
        record = registry.get(UUID(kid[1]))
    except TenantNotFoundError as error:
        raise InvalidTokenError("The token names no tenant.") from error
    if not record.verifies(int(kid[2])):
        raise InvalidTokenError("The token names no key.")
    return record, int(kid[2])


def _decoded(segment: str) -> bytes:
    """Canonical base64url only, so that a token has one spelling: what is denied by its text stays denied."""
    try:
        content = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError as error:
        raise InvalidTokenError("The token is not base64url.") from error
    if urlsafe_b64encode(content).rstrip(b"=") != segment.encode():
        raise InvalidTokenError("The token is not canonical base64url.")
    return content


def _members(content: bytes, types: Mapping[str, type]) -> dict[str, Any]:
    """A JSON object's members, when they are exactly these, each once, each of its type."""
    try:
        pairs = json.loads(content.decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("The token holds no JSON.") from error
    if not isinstance(pairs, tuple) or sorted(name for name, _ in pairs) != sorted(types):
        raise InvalidTokenError("The token has other members than ours.")
    if any(type(value) is not types[name] for name, value in pairs):
        raise InvalidTokenError("A member of the token has another type than ours.")
    return dict(pairs)


def _require_agreement(claims: dict[str, Any], tenant: str) -> None:
    lifetimes = {"access": api_settings.ACCESS_TOKEN_LIFETIME, "refresh": api_settings.REFRESH_TOKEN_LIFETIME}
    lifetime = lifetimes.get(claims["token_type"])
    now = time.time()
    if (claims["tenant"], claims["iss"], claims["aud"]) != (tenant, _issuer(tenant), AUDIENCE):
        raise InvalidTokenError("The token's claims name others than its key.")
    if lifetime is None or not 0 < claims["exp"] - claims["iat"] <= lifetime.total_seconds():
        raise InvalidTokenError("The token would live for longer than its kind may.")
    if not claims["iat"] - CLOCK_SKEW_SECONDS <= now < claims["exp"]:
        raise InvalidTokenError("The token is not valid now.")
    if not claims["jti"] or not UUID_TEXT.fullmatch(claims["sub"]):
        raise InvalidTokenError("The token names no user.")
    if not 0 < claims["generation"] < 2**31 or not UUID_TEXT.fullmatch(claims["login"]):
        raise InvalidTokenError("The token names no log-in.")
