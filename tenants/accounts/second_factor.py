"""
A second proof beside the password: codes of an authenticator app (RFC 6238), and recovery codes for when it is lost.

What was typed is looked at whether the password was right or not, and used up only if it was: neither the answer nor
the statements before it tell which of the two was wrong. docs/adr/0017-second-factor.md has the reasons.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time

import pyotp
from django.db import transaction
from django.utils import timezone

from tenants.accounts.models import Login, Passkey, RecoveryCode, SecondFactor, SignInPolicy
from tenants.planes import here, require_bound
from tenants.secrets import Secret, seal, unseal

STEP_SECONDS = 30
TOLERANCE = 1  # steps that a clock may be ahead or behind
RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 16  # so many that a fast hash is enough to keep them by; 32 characters with the hyphens
SEAL_VERSION = 1
CODE = re.compile(r"[0-9]{6}")
DECOY = pyotp.random_base32()  # for accounts that have no secret: as much is computed for them


class GivenCode:
    """What was typed by whoever says that they are ``username``; nobody is called ""."""

    def __init__(self, username: str, text: str):
        text = "".join(text.split()).replace("-", "").lower()
        factors = SecondFactor.objects.filter(user__username=username).exclude(confirmed_at=None)
        self._factor = factors.first()
        secret = _unsealed(self._factor) if self._factor else DECOY
        self._step = _matching_step(secret, text)
        digest = _digest(self._factor.user_id if self._factor else "", text)
        self._recovery_code = RecoveryCode.objects.filter(digest=digest).first()
        is_needed, has_passkey = is_required(), Passkey.objects.standing().filter(user__username=username).exists()
        self._must_use_passkey = is_needed and has_passkey

    @property
    def is_needed(self) -> bool:
        return self._factor is not None

    def opens(self) -> bool:
        """
        Whether it is all that is missing, asked once the password was right: nothing is, for who has no second factor.
        Of several uses of one code one succeeds. Where a second factor is required, whose are passkeys uses one.
        """
        if self._factor is None:
            return not self._must_use_passkey
        if self._step is not None:
            unused = SecondFactor.objects.filter(pk=self._factor.pk, last_step__lt=self._step)
            return bool(unused.update(last_step=self._step))
        if self._recovery_code is not None:
            code = RecoveryCode.objects.filter(pk=self._recovery_code.pk, used_at=None)
            return bool(code.update(used_at=timezone.now()))
        return False


def begin(user) -> Secret:
    """A new secret, to be shown this once; it counts from when ``confirm`` has seen a code of it."""
    secret = Secret(pyotp.random_base32())
    with transaction.atomic():
        SecondFactor.objects.filter(user=user, confirmed_at=None).delete()
        SecondFactor.objects.create(user=user, sealed_secret=_sealed(secret, user.pk))
    return secret


def confirm(user, text: str) -> list[str]:
    """
    The recovery codes, to be shown this once; none when the code is not the secret's. Log-ins that were had with the
    password alone end.
    """
    factor = SecondFactor.objects.filter(user=user, confirmed_at=None).first()
    step = _matching_step(_unsealed(factor), "".join(text.split())) if factor else None
    if factor is None or step is None:
        return []
    with transaction.atomic():
        unconfirmed = SecondFactor.objects.filter(pk=factor.pk, confirmed_at=None)
        if not unconfirmed.update(confirmed_at=timezone.now(), last_step=step):
            return []
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(user.pk, code)) for code in codes)
        user.logins.end(Login.Ending.NEW_CREDENTIALS)
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]


def remove(user) -> bool:
    """Whether there was one. Their log-ins end with it."""
    with transaction.atomic():
        RecoveryCode.objects.filter(user=user).delete()
        _, removed = SecondFactor.objects.filter(user=user).delete()
        if removed:
            user.logins.end(Login.Ending.NEW_CREDENTIALS)
    return bool(removed)


def remove_all(user) -> bool:
    """For who has lost them, or has lost a device to somebody: passkeys too."""
    with transaction.atomic():
        had_app = remove(user)
        _, removed = Passkey.objects.filter(user=user).delete()
        if removed:
            user.logins.end(Login.Ending.NEW_CREDENTIALS)
    return had_app or bool(removed)


def require_of_everybody(is_required: bool) -> None:
    """In the bound plane. The log-ins of who has none end: they enrol in the workspace, and may do nothing else."""
    with transaction.atomic():
        SignInPolicy.objects.update_or_create(name=SignInPolicy.NAME, defaults={"requires_second_factor": is_required})
        if is_required:
            enrolled = SecondFactor.objects.exclude(confirmed_at=None).values("user")
            Login.objects.exclude(user__in=enrolled).end(Login.Ending.NEW_CREDENTIALS)


def is_required() -> bool:
    return SignInPolicy.objects.filter(requires_second_factor=True).exists()


def is_enrolled(user) -> bool:
    return SecondFactor.objects.filter(user=user).exclude(confirmed_at=None).exists()


def must_enrol(user) -> bool:
    """
    Whoever has logged in with a password alone. Not who supports: they have logged in at the console, as it requires,
    and have no password here to enrol with.
    """
    return user.operator is None and is_required() and not is_enrolled(user)


def must_use_passkey(user) -> bool:
    """Instead of enrolling an app, or another passkey: a password alone would lead round the one that there is."""
    return must_enrol(user) and Passkey.objects.standing().filter(user=user).exists()


def provisioning_uri(user, secret: str, plane_name: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=user.get_username(), issuer_name=f"Bulkhead {plane_name}")


def _matching_step(secret: str, text: str) -> int | None:
    """Of those that are near: all are compared, whichever it is."""
    code = text if CODE.fullmatch(text) else ""
    totp, now = pyotp.TOTP(secret), int(time.time()) // STEP_SECONDS
    steps = range(now - TOLERANCE, now + TOLERANCE + 1)
    found = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    return found[-1] if found else None


def _new_recovery_code() -> str:
    return base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode().rstrip("=").lower()


def _digest(user_id: object, code: str) -> str:
    """Of 128 random bits. Another for each generation of the database: in a copy, codes that were used are not."""
    record = require_bound().record
    generation = record.snapshot.generation if record else 0
    return hashlib.sha256(f"{_owner()} {generation} {user_id} {code}".encode("utf-8", "surrogatepass")).hexdigest()


def _owner() -> str:
    record = require_bound().record
    return str(record.snapshot.id) if record else str(here())


def _sealed(secret: str, user_id: object) -> str:
    return seal(secret, key="runtime", tenant=_owner(), field=f"second factor of {user_id}", version=SEAL_VERSION)


def _unsealed(factor: SecondFactor) -> Secret:
    field = f"second factor of {factor.user_id}"
    return unseal(factor.sealed_secret, key="runtime", tenant=_owner(), field=field, version=SEAL_VERSION)
