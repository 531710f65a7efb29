"""
Ring three: a connection refuses to work for anybody but the plane it was opened for.

The check stands at each statement, fetch and commit, not at the look-up of a connection: a cursor or connection that
was kept from one tenant is as useless in the next as a fresh one.
"""

import re

from django.db import OperationalError
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.db.transaction import TransactionManagementError

from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.planes import Account, Bound, current

# After these the server may have rolled back more, or less, than the caller knows. To go on inside the same atomic()
# would commit half a transaction: after 1213 the second half, after 1205 both without the statement that failed.
BREAKS_TRANSACTION = frozenset({1205, 1213, 1317, 1969, 2006, 2013})
# Statements that commit the open transaction on MySQL and MariaDB, even when they are then refused.
COMMITS_IMPLICITLY = re.compile(
    r"\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*|#[^\n]*\n\s*|\(\s*)*"
    r"(?:CREATE|ALTER|DROP|TRUNCATE|RENAME|ANALYZE|OPTIMIZE|REPAIR|CHECK|CACHE|LOAD|FLUSH|RESET|LOCK|UNLOCK|GRANT|REVOKE|"
    r"INSTALL|UNINSTALL|START|BEGIN|COMMIT|SET\s+(?:SESSION\s+|LOCAL\s+|@@\S*?\.?)?@*autocommit|SET\s+PASSWORD|SET\s+ROLE|/\*[!M])",
    re.IGNORECASE | re.DOTALL,
)


class GuardedCursor(CursorWrapper):
    def __getattr__(self, attr):
        if attr != "close":
            self.db.require_own_plane()
        return super().__getattr__(attr)

    def __iter__(self):
        with self.db.wrap_database_errors:
            for row in self.cursor:
                self.db.require_own_plane()
                yield row

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
        with self.db.breaks_transaction_on_error:
            return super()._execute(sql, params, *ignored_wrapper_args)

    def _executemany(self, sql, param_list, *ignored_wrapper_args):
        self.db.before_statement(sql)
        with self.db.breaks_transaction_on_error:
            return super()._executemany(sql, param_list, *ignored_wrapper_args)


class GuardedDebugCursor(GuardedCursor, CursorDebugWrapper):
    pass


class _BreaksTransactionOnError:
    """Marks the transaction as broken, so that nothing of it can be committed by code that swallows the error."""

    def __init__(self, wrapper):
        self.wrapper = wrapper

    def __enter__(self):
        return None

    def __exit__(self, kind, error, traceback):
        if isinstance(error, OperationalError) and error.args and error.args[0] in BREAKS_TRANSACTION:
            if self.wrapper.in_atomic_block:
                self.wrapper.needs_rollback = True


class GuardedWrapper:
    """
    Mixed into a Django ``DatabaseWrapper``. ``alias`` and ``account`` say whom it works for.

    ``retired`` is set when the handler lets go of it: someone may have kept it, and it must not reconnect.
    """

    account: Account = "runtime"
    retired = False
    ddl_commits = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.breaks_transaction_on_error = _BreaksTransactionOnError(self)

    def require_own_plane(self) -> Bound:
        bound = current()
        if bound is None:
            raise NoTenantError(f"A connection to {self.alias} was used where nothing is bound.")
        if bound.alias != self.alias or bound.account != self.account:
            raise WrongTenantError(
                f"A connection to {self.alias} ({self.account} account) was used where {bound} "
                f"({bound.alias}, {bound.account} account) is bound. Take a new one here: django.db.connection."
            )
        return bound

    def before_statement(self, sql) -> None:
        self.require_own_plane()
        if self.ddl_commits and self.in_atomic_block and self.account == "runtime" and COMMITS_IMPLICITLY.match(sql):
            raise TransactionManagementError(
                "This statement would commit the transaction that it stands in, even when the server refuses it: "
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
        bound = self.require_own_plane()
        if self.retired:
            raise WrongTenantError(f"A connection to {bound} was kept after it had been closed. Take a new one.")
        super().connect()

    def _commit(self):
        self._or_drop(super()._commit)

    def _set_autocommit(self, autocommit):
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
        self.close()
