"""How a member's passkey comes to stand in the plane's database, and goes: in one session, once each."""

import secrets
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.db import IntegrityError, transaction
from webauthn import generate_registration_options, verify_registration_response
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    options_to_json_dict,
    parse_attestation_object,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from tenants.accounts.models import Login, Passkey
from tenants.accounts.passkeys import (
    BEGUN_FOR_SECONDS,
    BY_PASSKEY,
    MAX_ANSWER,
    PasskeyRefused,
    handle_of,
    site,
)
from tenants.audit.trail import lock_head
from tenants.planes import here, require_bound

BEGUN = "passkey"  # in the session
PER_MEMBER = 10
MAX_CREDENTIAL_ID = 255
RSA_BITS = range(2048, 4097)


def begin(request, name: str, plane_name: str) -> dict[str, Any]:
    """What a browser asks an authenticator to make, for the member who is logged in, once and for five minutes."""
    user, challenge = request.user, secrets.token_bytes(32)
    request.session[BEGUN] = {"challenge": bytes_to_base64url(challenge), "at": time.time(), "name": name}
    options = generate_registration_options(
        rp_id=site()[0],
        rp_name=f"Bulkhead {plane_name}",
        user_id=handle_of(user),
        user_name=user.get_username(),
        challenge=challenge,
        timeout=BEGUN_FOR_SECONDS * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(id=base64url_to_bytes(known))
            for known in Passkey.objects.standing().filter(user=user).values_list("credential_id", flat=True)
        ],
    )
    return options_to_json_dict(options)


def register(request, answer: str) -> Passkey:
    """
    What was begun in this session. The member's log-ins that were had with password and code end, and from now on
    this session counts as opened with it. Raises ``PasskeyRefused``.
    """
    begun, user = request.session.pop(BEGUN, None), request.user
    if begun is None or time.time() - begun["at"] > BEGUN_FOR_SECONDS:
        raise PasskeyRefused("It was not begun in this session, or too long ago.")
    made = _verified_registration(answer, base64url_to_bytes(begun["challenge"]))
    try:
        with transaction.atomic():
            lock_head()
            mine = Passkey.objects.filter(user=user)
            mine.exclude(database=here()).delete()  # what a copy brought along opens nothing
            if mine.count() >= PER_MEMBER:
                raise PasskeyRefused("There are as many as a member may have.")
            passkey = Passkey.objects.create(
                user=user,
                database=require_bound().alias,
                name=begun["name"],
                credential_id=bytes_to_base64url(made.credential_id),
                public_key=bytes_to_base64url(made.credential_public_key),
                sign_count=made.sign_count,
            )
            user.logins.end(Login.Ending.NEW_CREDENTIALS)
    except IntegrityError as error:
        raise PasskeyRefused("Somebody has it.") from error
    request.session[BY_PASSKEY] = str(passkey.pk)
    return passkey


def remove(request, passkey: Passkey) -> None:
    """
    One's own. Log-ins through the API end, and so do the other sessions that it opened; this one goes on as one that
    was opened with the password, which has been said just now.
    """
    opened_this = request.session.get(BY_PASSKEY) == str(passkey.pk)
    with transaction.atomic():
        passkey.delete()
        request.user.logins.end(Login.Ending.NEW_CREDENTIALS)
    if opened_this:
        del request.session[BY_PASSKEY]


def _verified_registration(answer: str, challenge: bytes) -> VerifiedRegistration:
    if len(answer) > MAX_ANSWER:
        raise PasskeyRefused("It is too long.")
    rp_id, origin = site()
    try:
        credential = parse_registration_credential_json(answer)
        client_data = parse_client_data_json(credential.response.client_data_json)
        attested = parse_attestation_object(credential.response.attestation_object)
        # No attestation was asked for: whoever's certificates come along are not read.
        if attested.fmt not in ("none", "packed") or attested.att_stmt.x5c or client_data.cross_origin:
            raise ValueError("It brings certificates, or was asked for inside another site's page.")
        made = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
        )
        key = decoded_public_key_to_cryptography(decode_credential_public_key(made.credential_public_key))
        if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
            raise ValueError("Its key has another length than is usual.")
        if len(made.credential_id) > MAX_CREDENTIAL_ID:
            raise ValueError("Its id is too long.")
    except Exception as error:  # of whatever kind, as in a log-in
        raise PasskeyRefused(f"It is not valid ({type(error).__name__}).") from error
    return made
