"""
Logging in by a tenant's own identity provider: OpenID Connect, authorisation code with PKCE.

What the browser carries back counts in the session that it began in, once; what the provider says, only with its
signature. docs/adr/0017-second-factor.md has the reasons.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import jwt

from tenants.accounts.models import IdentityProvider
from tenants.accounts.outside import OutsideError, ask_json, require_url
from tenants.context import current_tenant
from tenants.secrets import Secret, seal, unseal

# What the provider signs with a key of its own: an algorithm that a shared secret would do for is none.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
CLOCK_SKEW_SECONDS = 60
BEGUN_FOR_SECONDS = 600
MAX_TOKEN = 16 * 1024
MAX_KEYS = 50
MIN_RSA_BITS = 2048
BEGUN = "oidc"  # in the session


class OidcRefused(Exception):
    """The log-in is not what was begun here, or not what the provider signed. Why is for the log."""


def seal_secret(text: str) -> str:
    return seal(text, tenant=current_tenant().id, key="runtime", field="oidc client secret", version=1)


def unseal_secret(provider: IdentityProvider) -> Secret:
    sealed = provider.sealed_client_secret
    return unseal(sealed, tenant=current_tenant().id, key="runtime", field="oidc client secret", version=1)


def discover(issuer: str) -> dict[str, Any]:
    """What a provider says of itself, as far as it is needed. Raises ``OutsideError``."""
    document = ask_json("GET", issuer.removesuffix("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise OutsideError("The provider calls itself by another issuer.")
    endpoints = {name: document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    for url in endpoints.values():
        require_url(url)
    methods = document.get("token_endpoint_auth_methods_supported")
    is_in_body = isinstance(methods, list) and "client_secret_basic" not in methods
    names_itself = document.get("authorization_response_iss_parameter_supported") is True
    return endpoints | {"secret_in_body": is_in_body, "names_itself": names_itself}


def begin(session, provider: IdentityProvider, redirect_uri: str) -> str:
    """Where the browser is to go."""
    begun = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    session[BEGUN] = begun | {"issuer": provider.issuer, "client_id": provider.client_id, "at": time.time()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun["verifier"].encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "scope": "openid email", "client_id": provider.client_id,
        "redirect_uri": redirect_uri, "state": begun["state"], "nonce": begun["nonce"],
        "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    endpoint = str(provider.endpoints["authorization_endpoint"])
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"


def finish(session, provider: IdentityProvider, given: Mapping[str, list[str]], redirect_uri: str) -> dict[str, Any]:
    """
    The claims of the token that the provider gives for what the browser brought back. Raises ``OidcRefused``,
    ``OutsideError``.
    """
    begun = session.pop(BEGUN, None) or {}
    answer = {name: values[0] for name, values in given.items() if len(values) == 1}
    same = hmac.compare_digest(answer.get("state", "").encode(), begun.get("state", "").encode())
    if not begun or not same or time.time() - begun["at"] > BEGUN_FOR_SECONDS:
        raise OidcRefused("It was not begun in this session, or too long ago.")
    if (begun["issuer"], begun["client_id"]) != (provider.issuer, provider.client_id):
        raise OidcRefused("It was begun with another provider.")
    if answer.get("iss", None if provider.endpoints["names_itself"] else provider.issuer) != provider.issuer:
        raise OidcRefused("Another provider answers.")
    if not answer.get("code"):
        raise OidcRefused("There is no code.")
    form = {
        "grant_type": "authorization_code", "code": answer["code"], "redirect_uri": redirect_uri,
        "code_verifier": begun["verifier"],
    }  # fmt: skip
    tokens = _ask_tokens(provider, form)
    keys = ask_json("GET", provider.endpoints["jwks_uri"]).get("keys")
    return verify(tokens.get("id_token"), keys, provider, begun["nonce"])


def verify(token: object, keys: object, provider: IdentityProvider, nonce: str) -> dict[str, Any]:
    """The claims of an ID token, if every one of them is right. Raises ``OidcRefused``."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise OidcRefused("There is no ID token.")
    try:
        header = jwt.get_unverified_header(token)
        key = _key_for(header, keys)
        claims = jwt.decode(
            token, key, [header["alg"]],
            audience=provider.client_id, issuer=provider.issuer, leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )  # fmt: skip
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OidcRefused(f"The ID token is not valid ({type(error).__name__}).") from error
    if claims["aud"] not in (provider.client_id, [provider.client_id]):
        raise OidcRefused("The ID token is for others too.")
    if claims.get("azp", provider.client_id) != provider.client_id:
        raise OidcRefused("The ID token was issued to another.")
    if not hmac.compare_digest(str(claims.get("nonce")).encode("utf-8", "surrogatepass"), nonce.encode()):
        raise OidcRefused("The ID token is of another log-in.")
    subject = claims["sub"]
    if not subject.isascii() or not subject.isprintable() or not 0 < len(subject) <= 255:
        raise OidcRefused("The ID token names nobody.")
    return claims


def _key_for(header: Mapping[str, Any], keys: object) -> jwt.PyJWK:
    """The one that the token names, or the only one. Neither the token nor a key brings another algorithm in."""
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS or not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise OidcRefused("The algorithm is none that counts here, or there are no keys.")
    signing = [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig"]
    if "kid" in header:
        signing = [key for key in signing if key.get("kid") == header["kid"]]
    if len(signing) != 1 or signing[0].get("alg", algorithm) != algorithm or signing[0].get("kty") == "oct":
        raise OidcRefused("The ID token's key is not one of the provider's.")
    key = jwt.PyJWK.from_dict(signing[0], algorithm=algorithm)
    if signing[0]["kty"] == "RSA" and key.key.key_size < MIN_RSA_BITS:
        raise OidcRefused("The provider's key is too short.")
    return key


def _ask_tokens(provider: IdentityProvider, form: dict[str, str]) -> dict[str, Any]:
    secret = unseal_secret(provider)
    if provider.endpoints["secret_in_body"]:
        form |= {"client_id": provider.client_id, "client_secret": secret}
        return ask_json("POST", provider.endpoints["token_endpoint"], form)
    pair = f"{quote(provider.client_id, safe='')}:{quote(secret, safe='')}"
    basic = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return ask_json("POST", provider.endpoints["token_endpoint"], form, Authorization=basic)
