"""Whose account a provider's claims open, and who gets one by them."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants.accounts.models import ExternalIdentity, IdentityProvider, MailLink, User
from tenants.accounts.oidc import OidcRefused
from tenants.audit.trail import lock_head


def member_for(provider: IdentityProvider, claims: dict[str, Any]) -> User:
    """
    By issuer and subject, which never come to mean somebody else. The first time by e-mail address, if the provider has
    verified it: an account that was invited, or that nobody has a password of, or a new one. An account with a
    password is its member's, whatever a provider says of addresses. Raises ``OidcRefused``.
    """
    known = ExternalIdentity.objects.filter(issuer=provider.issuer, subject=claims["sub"]).select_related("user")
    identity = known.first()
    user = identity.user if identity else _first_log_in(provider, claims)
    if not user.is_active:
        raise OidcRefused("The account is disabled.")
    return user


def _first_log_in(provider: IdentityProvider, claims: dict[str, Any]) -> User:
    email = _verified_email(provider, claims)
    try:
        with transaction.atomic():
            lock_head()  # as whatever changes an account does: nobody else opens, ends or changes this one meanwhile
            user = _account_of(provider, email)
            if user.is_invited:
                user.is_invited, user.is_active = False, True
                user.save(update_fields=["is_invited", "is_active"])
                MailLink.objects.filter(user=user).end(MailLink.Ending.USED)
            ExternalIdentity.objects.create(user=user, issuer=provider.issuer, subject=claims["sub"])
    except (IntegrityError, ValidationError) as error:
        raise OidcRefused("The account could not be made: there is one of that name.") from error
    return user


def _account_of(provider: IdentityProvider, email: str) -> User:
    accounts = list(User.objects.filter(email__iexact=email)[:2])
    if not accounts and provider.makes_members:
        user = User(username=email, email=email, role=provider.role)
        user.set_unusable_password()
        user.full_clean(exclude=["password"])
        user.save(force_insert=True)
        return user
    if len(accounts) != 1 or not _waits(accounts[0]):
        raise OidcRefused("There is no account that waits for this address.")
    return accounts[0]


def _waits(user: User) -> bool:
    if user.has_usable_password() or user.external_identities.exists():
        return False
    return user.is_active or _is_invited(user)


def _is_invited(user: User) -> bool:
    """By an invitation that stands: coming in by the provider takes it up."""
    links = MailLink.objects.filter(user=user, purpose=MailLink.Purpose.INVITATION, ended_at=None)
    return user.is_invited and links.filter(expires_at__gt=timezone.now()).exists()


def _verified_email(provider: IdentityProvider, claims: dict[str, Any]) -> str:
    email = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(email, str) or not email.isascii():
        raise OidcRefused("The provider has verified no address.")
    name, _, domain = email.lower().rpartition("@")
    if not name or "@" in name or domain not in provider.domains:
        raise OidcRefused("The address is of another domain.")
    return email.lower()
