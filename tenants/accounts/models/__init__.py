"""Who has an account in the plane, and how they get in."""

from tenants.accounts.models.people import (
    ENDING_LOG_INS,
    Login,
    LoginQuerySet,
    User,
    UserManager,
    is_last_owner,
    last_moment,
)
from tenants.accounts.models.ways_in import (
    ApiKey,
    ExternalIdentity,
    IdentityProvider,
    MailLink,
    Passkey,
    RecoveryCode,
    SecondFactor,
    SignInPolicy,
    SupportAccess,
    Tries,
)

__all__ = [
    "ApiKey",
    "ENDING_LOG_INS",
    "ExternalIdentity",
    "IdentityProvider",
    "Login",
    "LoginQuerySet",
    "MailLink",
    "Passkey",
    "RecoveryCode",
    "SecondFactor",
    "SignInPolicy",
    "SupportAccess",
    "Tries",
    "User",
    "UserManager",
    "is_last_owner",
    "last_moment",
]
