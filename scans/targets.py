"""What may be written of a target, whoever writes it: the API and the workspace ask here."""

from datetime import datetime

from cryptography.x509 import load_pem_x509_certificates
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.utils import timezone

from scans.addresses import AddressRefused, normalise_host
from scans.engines.base import is_literal_address
from scans.exceptions import ScanRefused
from scans.models import Authorization, Target
from scans.services import resolve


def clean_host(text: str) -> str:
    """
    The host's one spelling. A literal address is judged at once; a name is when it is resolved, before each scan.

    Raises ``ValidationError``.
    """
    try:
        host = normalise_host(text)
        if is_literal_address(host):
            resolve(Target(host=host))
    except AddressRefused as error:
        raise ValidationError(error.detail, code=error.reason_code) from None
    except ScanRefused as error:
        raise ValidationError(error.detail, code=error.code) from None
    return host


def clean_ca_pem(text: str) -> str:
    """Raises ``ValidationError``: what does not load here would fail each scan."""
    if "PRIVATE KEY" in text:
        raise ValidationError("This holds a private key. Give the certificates alone.", code="private_key")
    try:
        if text:
            load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValidationError("These are no certificates in PEM form.", code="invalid") from None
    return text


def clean_expiry(moment: datetime) -> datetime:
    """Raises ``ValidationError``."""
    if not timezone.now() < moment <= timezone.now() + Authorization.LONGEST:
        raise ValidationError(f"In the future, and at most {Authorization.LONGEST.days} days from now.", code="range")
    return moment


def is_scope_fixed(target: Target) -> bool:
    """
    Host and ports are what an owner has authorised. While that holds, nobody moves the authorisation to another host
    by editing the target.
    """
    return target.authorizations.valid().exists()


def revoke(authorization: Authorization) -> None:
    """By the database's clock. Again changes nothing: the first moment stands."""
    Authorization.objects.filter(pk=authorization.pk, revoked_at=None).update(revoked_at=Now())
    authorization.refresh_from_db(fields=["revoked_at"])
