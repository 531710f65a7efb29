"""
Ring three: a connection refuses to work for anybody but the plane it was opened for.

The check stands at each statement, fetch and commit, not at the look-up of a connection: a cursor or connection that
was kept from one tenant is as useless in the next as a fresh one.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import isroutine
from typing import TYPE_CHECKING, Any

from django.db import Error, OperationalError
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.db.transaction import TransactionManagementError

from tenants.breakers import Address, is_silent, require_answering
from tenants.exceptions import DatabaseReadOnlyError, NoTenantError, TenantUnavailableError, WrongTenantError
from tenants.planes import Account, Bound, Plane, current
from tenants.schema import require_up_to_date

logger = logging.getLogger(__name__)

# After these the server may have rolled back more, or less, than the caller knows. To go on inside the same atomic()
# would commit half a transaction: after 1213 the second half, after 1205 both without the statement that failed.
BREAKS_TRANSACTION = frozenset({1205, 1213, 1317, 1969, 2006, 2013})
IS_LOST = frozenset({2006, 2013})


class GuardedCursor(CursorWrapper):
    def __getattr__(self, attr):
        value = super().__getattr__(attr)
        if attr == "close":
            return value
        self.db.require_own_plane()
        return self._checked(value) if isroutine(value) else value

    def _checked(self, method):
        """A method of the driver's cursor, ``executescript`` for one: it can be kept as well as a cursor can."""

        @wraps(method)
        def checked(*args, **kwargs):
            self.db.require_own_plane()
            return method(*args, **kwargs)

        return checked

    def __iter__(self):
        self.db.require_own_plane()
        with self.db.wrap_database_errors:
            for row in self.cursor:
                yield row
                self.db.require_own_plane()  # before the next row is fetched

    def fetchone(self):
        return self._fetch("fetchone")

    def fetchmany(self, *args, **kwargs):
        return self._fetch("fetchmany", *args, **kwargs)

    def fetchall(self):
        return self._fetch("fetchall")

    def _fetch(self, name, *args, **kwargs):
        self.db.require_own_plane()
        with self.db.wrap_database_errors:
            return getattr(self.cursor, name)(*args, **kwargs)

    def callproc(self, procname, params=None, kparams=None):
        self.db.require_own_plane()
        return super().callproc(procname, params, kparams)

    def _execute(self, sql, params, *ignored_wrapper_args):
        self.db.before_statement(sql)
        try:
            with self.db.breaks_transaction_on_error:
                return super()._execute(sql, params, *ignored_wrapper_args)
        except OperationalError as error:
            if not self.db.may_read_again(sql, error):
                raise
        self.db.close()
        self.db.ensure_connection()
        self.cursor = self.db.create_cursor()
        return super()._execute(sql, params, *ignored_wrapper_args)

    def _executemany(self, sql, param_list, *ignored_wrapper_args):
        self.db.before_statement(sql)
        with self.db.breaks_transaction_on_error:
            return super()._executemany(sql, param_list, *ignored_wrapper_args)


class GuardedDebugCursor(GuardedCursor, CursorDebugWrapper):
    pass


if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper as _Wrapper
else:
    _Wrapper = object  # the guard is mixed into whichever backend is in use


class _BreaksTransactionOnError:
    """
    Marks the transaction as broken, so that nothing of it can be committed by code that swallows the error. Other
    errors are told as what is known of the database, if it is that.
    """

    def __init__(self, wrapper):
        self.wrapper = wrapper

    def __enter__(self):
        return None

    def __exit__(self, kind, error, traceback):
        if isinstance(error, OperationalError) and error.args and error.args[0] in BREAKS_TRANSACTION:
            self.wrapper.needs_rollback = self.wrapper.in_atomic_block
        elif isinstance(error, Error) and self.wrapper.account == "runtime":
            self.wrapper.explain(error)


def _discard(connection) -> None:
    with suppress(Exception):  # it is gone already, or as good as gone
        connection.close()


class GuardedWrapper(_Wrapper):
    """
    Mixed into a Django ``DatabaseWrapper``. ``alias`` and ``account`` say whom it works for.

    ``retired`` is set when the handler lets go of it: someone may have kept it, and it must not reconnect.
    """

    Database: Any  # the driver
    account: Account = "runtime"
    bound: Bound
    retired = False
    # Whose breaker it is behind: a tenant's runtime account, where there is a server.
    server_address: Address | None = None
    ends_transaction: re.Pattern[str]  # statements that end the open transaction, whatever else they do

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.breaks_transaction_on_error = _BreaksTransactionOnError(self)

    @property
    def is_in_transaction(self) -> bool:
        return self.in_atomic_block or (self.connection is not None and not self.autocommit)

    def require_own_plane(self) -> Bound:
        bound = current()
        if bound is None:
            raise NoTenantError(f"A connection to {self.alias} was used where nothing is bound.")
        if bound.alias != self.alias or bound.account != self.account:
            raise WrongTenantError(
                f"A connection to {self.alias} ({self.account} account) was used where {bound} "
                f"({bound.alias}, {bound.account} account) is bound. Take a new one here: django.db.connection."
            )
        if self.retired:
            raise WrongTenantError(f"A connection to {bound} was kept after it had been closed. Take a new one.")
        return bound

    def before_statement(self, sql) -> None:
        self.require_own_plane()
        self.require_answering_server()
        if not self.autocommit and self.account == "runtime" and self.ends_transaction.match(sql):
            raise TransactionManagementError(
                "This statement would end the transaction that it stands in, even when the server refuses it: "
                f"{sql[:80]!r}. Run it outside atomic()."
            )

    def make_cursor(self, cursor):
        return GuardedCursor(cursor, self)

    def make_debug_cursor(self, cursor):
        return GuardedDebugCursor(cursor, self)

    def _cursor(self, name=None):
        self.require_own_plane()
        return super()._cursor(name)

    def connect(self):
        """Django keeps a connection whose set-up failed: the next query would run on it as if nothing had happened."""
        self.require_answering_server()
        try:
            super().connect()
        except BaseException as error:
            if self.connection is not None:
                _discard(self.connection)
                self.connection = None
            if isinstance(error, self.Database.Error):
                logger.error("The database of %s (%s) cannot be opened: %s", current(), self.alias, error)
            raise

    def require_answering_server(self) -> None:
        """Raises ``DatabaseSilentError``: at once, where a connection or a statement would wait in vain."""
        if self.server_address is not None:
            require_answering(self.server_address)

    def may_read_again(self, sql: str, error: Error) -> bool:
        """Whether a tenant's connection was cut under a statement that changes nothing, and its server may answer."""
        was_cut = self.server_address is not None and error.args[0] in IS_LOST and not is_silent(self.server_address)
        return was_cut and not self.is_in_transaction and sql.startswith("SELECT ")

    def explain(self, error: Error) -> None:
        """After the ``error`` of a statement: raises what is known of the database, where that is what it failed of."""
        if self.says_read_only(error.__cause__):
            raise DatabaseReadOnlyError(f"The database of {self.bound} is read-only: {error}") from error
        if self.bound.plane is Plane.TENANT and self.says_missing(error.__cause__):
            require_up_to_date()

    def get_new_connection(self, conn_params):
        bound = self.require_own_plane()
        connection = super().get_new_connection(conn_params)
        if bound.plane is Plane.TENANT:
            try:
                self._require_identity(connection, bound)
            except BaseException:
                _discard(connection)
                raise
        return connection

    def _require_identity(self, connection, bound: Bound) -> None:
        """A restored, swapped or re-pointed database is not the tenant's, whatever its name and account."""
        if (identity := self._identity_of(connection)) == bound.alias:
            return
        if bound.record.refuse_database not in bound.after_unbind:
            bound.after_unbind.append(bound.record.refuse_database)
        raise TenantUnavailableError(
            f"The database that was opened for {bound} is not {bound.alias}: it says that it is "
            f"{identity or 'nobody'}. The tenant goes into maintenance: put its own in place, then resume it."
        )

    def _identity_of(self, connection) -> str | None:
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT identity FROM tenant_identity")
            rows = cursor.fetchall()
        except self.Database.Error as error:
            if self.says_nobody(error):
                return None
            raise  # it did not answer: no reason to take it for another
        finally:
            cursor.close()
        return ", ".join(str(identity) for (identity,) in rows)

    def says_nobody(self, error: Exception) -> bool:
        """Whether the driver's ``error`` means that a database has no view of that form."""
        raise NotImplementedError

    def says_missing(self, error: BaseException | None) -> bool:
        """Whether the driver's ``error`` may mean that a table or column is not there."""
        raise NotImplementedError

    def says_read_only(self, error: BaseException | None) -> bool:
        raise NotImplementedError

    def says_locked(self, error: BaseException | None) -> bool:
        """Whether the driver's ``error`` means that somebody else has locked what was to be locked."""
        raise NotImplementedError

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """A block in which ``select_for_update(nowait=True)`` and the transaction around it wait for nobody's lock."""
        yield

    def copy(self, alias=None):
        raise WrongTenantError("A connection cannot be copied: nobody would close the copy when its binding ends.")

    def _commit(self):
        self._or_drop(super()._commit)

    def _set_autocommit(self, autocommit):
        if not autocommit:  # a transaction begins; one that ends must be able to
            self.require_answering_server()
        # On MySQL this commits what is open.
        self._or_drop(super()._set_autocommit, autocommit)

    def _or_drop(self, act, *args):
        try:
            self.require_own_plane()
        except (NoTenantError, WrongTenantError):
            self.drop()
            raise
        return act(*args)

    def drop(self) -> None:
        """Closes the physical connection, and with it what is open on it; nobody can use this wrapper again."""
        self.retired = True
        # One that an event loop's thread only looked at was never opened; Django would refuse to close it there.
        if self.connection is not None:
            with suppress(Error, self.Database.Error):  # it is gone already
                self.close()
