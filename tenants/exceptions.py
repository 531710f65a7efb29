"""The errors of tenancy. Each has a stable ``code``; none carries a secret or another tenant's data."""


class TenantError(Exception):
    """Something about tenants went wrong."""

    code = "tenant_error"


class NoTenantError(TenantError):
    """Nothing is bound: work outside ``tenant_context()`` and ``control_plane()`` has no database."""

    code = "no_tenant"


class WrongTenantError(TenantError):
    """Bound work reached for another plane than its own."""

    code = "wrong_tenant"


class TenantNotFoundError(TenantError):
    """There is no such tenant, or none that may be seen."""

    code = "tenant_not_found"


class TenantSuspendedError(TenantError):
    """The tenant is suspended."""

    code = "tenant_suspended"


class TenantUnavailableError(TenantError):
    """The tenant is in maintenance or its database does not answer: try again later."""

    code = "tenant_unavailable"


class TenantExistsError(TenantError):
    """A tenant with this slug exists."""

    code = "tenant_exists"


class InvalidTokenError(TenantError):
    """The token proves nothing."""

    code = "invalid_token"


class ProvisioningError(TenantError):
    """A tenant's database could not be made, changed or removed."""

    code = "provisioning_failed"


class SecretError(TenantError):
    """A sealed secret or a key cannot be used."""

    code = "secret_unusable"


class InvalidSlugError(TenantError):
    """The slug is malformed or reserved."""

    code = "invalid_slug"


class InvalidTransitionError(TenantError):
    """The tenant's state does not lead to the one asked for."""

    code = "invalid_transition"


class TooManyTriesError(TenantError):
    """Too many wrong passwords, of one account or from one address."""

    code = "too_many_tries"

    def __init__(self, retry_after: int):
        super().__init__(f"Too many tries have failed: the next one is in {retry_after} seconds.")
        self.retry_after = retry_after


class SecondFactorRequiredError(TenantError):
    """Everybody in this plane has to have a second factor, and who logged in has none yet."""

    code = "second_factor_required"


class SupportAccessError(TenantError):
    """A support access cannot be asked for, granted or ended as things are."""

    code = "support_access_refused"


class TooBusyError(TenantError):
    """More of something costly is asked for at once than this process does."""

    code = "too_busy"


class ForgedJobError(TenantError):
    """A job asks for something that this service does not do, or was not signed by it."""

    code = "forged_job"
