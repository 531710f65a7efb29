"""The errors of tenancy. Each has a stable ``code``; none carries a secret or another tenant's data."""

from typing import Any


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


class DatabaseSilentError(TenantUnavailableError):
    """The tenant's database server does not answer, as this process has found out a moment ago: nobody waits for it."""

    code = "unavailable"

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseBehindError(TenantUnavailableError):
    """The tenant's database lacks what the code asks for, as migrations of it have not been applied yet."""

    code = "database_behind"


class DatabaseReadOnlyError(TenantUnavailableError):
    """The database takes no writes at present: its server, or the disk under it, is read-only."""

    code = "read_only"


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


class UnrecordedWriteError(TenantError):
    """A row that is audited was to be written without a record of it."""

    code = "unrecorded_write"


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


class TooManyMailsError(TenantError):
    """Members have been invited more often today than a tenant may."""

    code = "too_many_mails"
    retry_after = 3600


class InvalidLinkError(TenantError):
    """The link from a mail opens nothing: made up, used, replaced, too old, or of another tenant."""

    code = "invalid_link"


class LastOwnerError(TenantError):
    """The tenant would be left without an active owner."""

    code = "last_owner"


class InvitationPendingError(TenantError):
    """The account is not in use before its invitation is accepted."""

    code = "invitation_pending"


class NotInvitedError(TenantError):
    """The account is in use: there is no invitation to send again or to withdraw."""

    code = "not_invited"


class TooBusyError(TenantError):
    """More of something costly is asked for at once than this process does."""

    code = "too_busy"


class StaleVersionError(TenantError):
    """
    Somebody else has changed the row since it was read, and nothing was written. ``fields`` has for each field that was
    to be changed, and is another now, both values: what was to be written, and what stands there.
    """

    code = "stale"

    def __init__(self, what: str, read: int, version: int, fields: dict[str, tuple[Any, Any]]):
        super().__init__(f"This {what} was read at version {read} and is at version {version} now. Read it again.")
        self.version = version
        self.fields = fields


class DeletedMeanwhileError(TenantError):
    """The row that was to be changed is not there any more. It is not made again."""

    code = "deleted"


class UnnamedColumnsError(TenantError):
    """A row that exists was to be saved whole, which would undo what others have changed of it since it was read."""

    code = "unnamed_columns"


class ForgedJobError(TenantError):
    """A job asks for something that this service does not do, or was not signed by it."""

    code = "forged_job"


class WorkHaltedError(TenantError):
    """An operator has halted this kind of work, in the bound tenant or in all."""

    code = "halted"
