"""
Passkeys (WebAuthn): what an authenticator signs once it has made sure who holds it, in place of password and code.

All planes of an installation are one relying party to a browser. So whose a passkey is, is said by the bound plane's
database alone, and a challenge opens nothing but the plane and the browser that it was made for.
docs/adr/0019-passkeys.md has the reasons.
"""

import hashlib
import hmac
import logging
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.utils import timezone
from webauthn import generate_authentication_options, verify_authentication_response
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_client_data_json,
)
from webauthn.helpers.structs import AuthenticationCredential, UserVerificationRequirement

from tenants.accounts.models import Passkey
from tenants.accounts.tries import answer_in_step, count_nameless
from tenants.audit.trail import record
from tenants.context import control_plane
from tenants.planes import Plane, current, here

logger = logging.getLogger(__name__)

BY_PASSKEY = "by_passkey"  # in the session: which one opened it
BEGUN_FOR_SECONDS = 300
MICROSECONDS = 1_000_000
MAX_ANSWER = 8192


class PasskeyRefused(Exception):
    """It is no answer to what was asked here, or of nobody's. Why is for the log, ``facts`` are for the audit."""

    def __init__(self, why: str, **facts: Any):
        super().__init__(why)
        self.facts = facts


def site() -> tuple[str, str]:
    """The relying party's id and the origin, as settings have them: whatever host a request names."""
    parts, bound = urlsplit(settings.BULKHEAD_PUBLIC_URL), current()
    host = parts.hostname or ""
    if settings.BULKHEAD_OPERATOR_HOST and bound is not None and bound.plane is Plane.CONTROL:
        host = settings.BULKHEAD_OPERATOR_HOST
    is_default = parts.port in (None, {"https": 443, "http": 80}[parts.scheme])
    return host, f"{parts.scheme}://{host}" + ("" if is_default else f":{parts.port}")


def log_in_options(request) -> dict[str, Any]:
    """
    What a browser asks an authenticator: whoever it is. The same for every visitor of every slug, and nothing is kept
    of it: the challenge is signed for this plane and this browser.
    """
    asked = f"{int(time.time() * MICROSECONDS)}-{secrets.token_urlsafe(16)}"
    options = generate_authentication_options(
        rp_id=site()[0],
        challenge=_signer(request).sign(asked).encode(),
        timeout=BEGUN_FOR_SECONDS * 1000,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def open_with(request, answer: str) -> Passkey | None:
    """
    The passkey that ``answer`` proves, used up; its user may log in. Counted as a failure of the address until then.

    Raises ``TooManyTriesError``; no transaction may be around it.
    """
    if current() is None:  # a tenant that does not exist
        with control_plane():
            count_nameless(request, unknown_tenant=request.asked_tenant)
            record("log_in_failed")
        answer_in_step(request)
        return None
    tried = count_nameless(request)
    passkey = None
    try:
        credential = _parsed(answer)
        known = Passkey.objects.standing().select_related("user")
        passkey = known.filter(credential_id=bytes_to_base64url(credential.raw_id)).first()
        if passkey is None:
            raise PasskeyRefused("Nobody here has it.")
        asked_at, sign_count = _verify(request, credential, passkey)
        _use(passkey, asked_at, sign_count)
    except PasskeyRefused as refused:
        logger.warning("A log-in with a passkey failed: %s", refused)
        record("log_in_failed", passkey and passkey.user, **refused.facts)
        answer_in_step(request)
        return None
    tried.succeeded()
    return passkey


def has_ended(request) -> bool:
    """Whether the session was opened with a passkey that has been removed since."""
    opened_by = request.session.get(BY_PASSKEY)
    if opened_by is None:
        return False
    return not Passkey.objects.standing().filter(pk=opened_by, user=request.user).exists()


def _parsed(answer: str) -> AuthenticationCredential:
    if len(answer) > MAX_ANSWER:
        raise PasskeyRefused("It is too long.")
    try:
        return parse_authentication_credential_json(answer)
    except Exception as error:  # of whatever kind: what the library raises for broken data it does not list
        raise PasskeyRefused(f"It is no answer ({type(error).__name__}).") from error


def _verify(request, credential: AuthenticationCredential, passkey: Passkey) -> tuple[int, int]:
    """When what it answers was asked, and how often the authenticator says that it has signed."""
    response = credential.response
    if not hmac.compare_digest(response.user_handle or b"", handle_of(passkey.user)):
        raise PasskeyRefused("It is of another member.")
    if not passkey.user.is_active:
        raise PasskeyRefused("The account is disabled.")
    rp_id, origin = site()
    try:
        client_data = parse_client_data_json(response.client_data_json)
        verified = verify_authentication_response(
            credential=credential,
            expected_challenge=client_data.challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            credential_public_key=base64url_to_bytes(passkey.public_key),
            credential_current_sign_count=0,  # compared where it is set: ``_use``
            require_user_verification=True,
        )
    except Exception as error:
        raise PasskeyRefused(f"It is not valid ({type(error).__name__}).") from error
    if client_data.cross_origin:
        raise PasskeyRefused("It was asked for inside another site's page.")
    return _asked_at(request, client_data.challenge), verified.new_sign_count


def _asked_at(request, challenge: bytes) -> int:
    try:
        asked_at = int(_signer(request).unsign(challenge.decode()).partition("-")[0])
    except (BadSignature, ValueError) as error:
        raise PasskeyRefused("It answers what was not asked of this browser here.") from error
    if time.time() * MICROSECONDS - asked_at > BEGUN_FOR_SECONDS * MICROSECONDS:
        raise PasskeyRefused("It was asked too long ago.")
    return asked_at


def _use(passkey: Passkey, asked_at: int, sign_count: int) -> None:
    """
    By conditional update: a challenge is answered once, and none that is older any more. A count that does not go on
    says that the authenticator, or this database, is a copy.
    """
    counted = {"sign_count__lt": sign_count} if sign_count else {"sign_count": 0}
    unused = Passkey.objects.filter(pk=passkey.pk, last_challenge__lt=asked_at, **counted)
    if not unused.update(last_challenge=asked_at, sign_count=sign_count, last_used_at=timezone.now()):
        if passkey.last_challenge >= asked_at:
            raise PasskeyRefused("It was used already.")
        facts = {"passkey": passkey.name, "sign_count": sign_count, "sign_count_before": passkey.sign_count}
        raise PasskeyRefused("Its count of signatures did not go on: there may be a copy of it.", **facts)


def _signer(request) -> Signer:
    """Under the plane's own key. The cookie is the one that the form's token is compared with."""
    browser = request.COOKIES.get(settings.CSRF_COOKIE_NAME, "")
    return Signer(salt=f"tenants.accounts.passkeys {here()} {browser}")


def handle_of(user) -> bytes:
    """What an authenticator keeps the passkey under: says nothing of whose it is, and is another in a copy."""
    return hashlib.sha256(f"passkey {here()} {user.pk}".encode()).digest()
