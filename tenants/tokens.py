"""
Access and refresh tokens, each signed with its tenant's own key.

``kid`` names tenant and key number. It only says which key to try: no claim is believed before the signature holds
under that very tenant's key, and then every claim has to name the same tenant.
"""

import json
import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from datetime import timedelta
from uuid import UUID

import jwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from tenants.context import current_record
from tenants.exceptions import InvalidTokenError, TenantNotFoundError
from tenants.registry import TenantRecord, registry

ALGORITHM = "HS256"
AUDIENCE = "bulkhead-api"
MAX_BYTES = 2048
CLAIMS = {"token_type": str, "exp": int, "iat": int, "jti": str, "sub": str, "tenant": str, "aud": str, "iss": str}
KID = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,8})")
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# What states a tenant may be in for its tokens to mean anything. Whether it is served is the binding's question.
KNOWN_STATES = frozenset({"active", "suspended", "maintenance"})


class TenantTokenBackend(TokenBackend):
    """Signs with the bound tenant's newest key; verifies with the key that ``kid`` names, bound or not."""

    def __init__(self):
        super().__init__(ALGORITHM)

    def encode(self, payload):
        record = current_record()
        number = max(record.signing_keys)
        tenant = record.snapshot.id.hex
        claims = payload | {"tenant": tenant, "aud": AUDIENCE, "iss": _issuer(tenant)}
        return jwt.encode(claims, _key(record, number), ALGORITHM, headers={"kid": f"{tenant}.{number}"})

    def decode(self, token, verify=True):
        try:
            record, number = _named_key(token)
            tenant = record.snapshot.id.hex
            claims = jwt.decode(
                token, _key(record, number), [ALGORITHM], audience=AUDIENCE, issuer=_issuer(tenant), leeway=0
            )
        except (jwt.InvalidTokenError, InvalidTokenError) as error:
            raise TokenBackendError("Token is invalid") from error
        if not _claims_hold(claims, tenant):
            raise TokenBackendError("Token is invalid")
        return claims


class _TenantToken:
    _token_backend = TenantTokenBackend()


class TenantAccessToken(_TenantToken, AccessToken):
    pass


class TenantRefreshToken(_TenantToken, RefreshToken):
    access_token_class = TenantAccessToken


def verify(token: str, token_class: type = TenantAccessToken) -> dict:
    """
    The claims of a genuine token of that class; ``tenant_of`` says whose key signed it.

    Raises ``InvalidTokenError``, which does not say why.
    """
    try:
        return token_class(token).payload
    except TokenError as error:
        raise InvalidTokenError("The token is not valid.") from error


def tenant_of(claims: dict) -> UUID:
    return UUID(claims["tenant"])


def _issuer(tenant: str) -> str:
    return f"bulkhead:{tenant}"


def _key(record: TenantRecord, number: int) -> bytes:
    return bytes.fromhex(record.signing_keys[number])


def _named_key(token: object) -> tuple[TenantRecord, int]:
    """Which key a token asks to be tried with; everything unusual about its form is refused before any is."""
    if not isinstance(token, str) or len(token) > MAX_BYTES or not SHAPE.fullmatch(token):
        raise InvalidTokenError("The token has no token's form.")
    encoded = token.split(".", 1)[0]
    try:
        pairs = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), object_pairs_hook=list)
        header = dict(pairs)
    except (ValueError, TypeError, Base64Error, RecursionError) as error:
        raise InvalidTokenError("The token's header cannot be read.") from error
    if len(pairs) != 3 or header.keys() != {"alg", "typ", "kid"}:
        raise InvalidTokenError("The token's header has other members than alg, typ and kid.")
    kid = KID.fullmatch(header["kid"]) if isinstance(header["kid"], str) else None
    if header["alg"] != ALGORITHM or header["typ"] != "JWT" or kid is None:
        raise InvalidTokenError("The token's header is not one of ours.")
    try:
        record = registry.get(UUID(kid[1]))
    except TenantNotFoundError as error:
        raise InvalidTokenError("The token names no tenant.") from error
    if record.snapshot.state not in KNOWN_STATES or int(kid[2]) not in record.signing_keys:
        raise InvalidTokenError("The token names no key.")
    return record, int(kid[2])


def _claims_hold(claims: dict, tenant: str) -> bool:
    if claims.keys() != CLAIMS.keys() or any(type(claims[name]) is not kind for name, kind in CLAIMS.items()):
        return False
    lifetimes = {"access": api_settings.ACCESS_TOKEN_LIFETIME, "refresh": api_settings.REFRESH_TOKEN_LIFETIME}
    lifetime: timedelta | None = lifetimes.get(claims["token_type"])
    if lifetime is None or not 0 < claims["exp"] - claims["iat"] <= lifetime.total_seconds():
        return False
    return claims["tenant"] == tenant
