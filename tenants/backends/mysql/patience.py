"""A driver's connection that tells a slow statement from a server that is gone, and does not wait for the second."""

import select
import time
from functools import partial
from typing import Any

import MySQLdb
from MySQLdb.connections import Connection

from tenants.breakers import Address, is_silent, open_breaker

PATIENCE_SECONDS = 1.0  # for a first byte of the answer, and then for a sign of life
# No address, nobody there, nobody who speaks: whatever else a server says, it answers.
NO_ANSWER = frozenset({2002, 2003, 2005, 2006, 2013})


class PatientConnection(Connection):
    """
    A statement may run for as long as the read timeout says. But when it has not answered for a second, the same
    account logs in once more; and when that is not answered within another, the server is taken for gone.

    ``address`` is that of the breaker which is opened when the server was waited for in vain, if there is one.
    """

    def __init__(self, address: Address | None, **params: Any):
        self._address, self._params, self._is_lost = address, params, False
        began_at = time.monotonic()
        try:
            super().__init__(**params)
        except MySQLdb.OperationalError as error:
            # A server that refuses or is not there says so at once: nobody has to be kept from asking it.
            if error.args[0] in NO_ANSWER and time.monotonic() - began_at >= PATIENCE_SECONDS:
                self._open_breaker()
            raise

    def query(self, query):
        if self._is_lost or is_silent(self._address):  # Django rolls back what failed, and must not wait for that too
            raise MySQLdb.OperationalError(2006, "The server had stopped answering.")
        self.send_query(bytes(query) if isinstance(query, bytearray) else query)
        if not self._is_answered() and not is_answering(self._params):
            self._is_lost = True
            self._open_breaker()
            raise MySQLdb.OperationalError(2013, "The server answers neither this statement nor a new connection.")
        self.read_query_result()

    # These the driver's own would send by other ways, and wait for the read timeout.

    def autocommit(self, on):
        if self.get_autocommit() != bool(on):
            self.query(b"SET autocommit=1" if on else b"SET autocommit=0")

    def commit(self):
        self.query(b"COMMIT")

    def rollback(self):
        self.query(b"ROLLBACK")

    def _is_answered(self) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(PATIENCE_SECONDS * 1000))

    def _open_breaker(self) -> None:
        if self._address is not None:
            open_breaker(self._address, partial(is_answering, self._params))


def is_answering(params: dict[str, Any]) -> bool:
    """
    Whether the server says anything to a log-in within a second or so: "too many connections" is an answer. A whole
    log-in, because servers count those that are broken off, and shut out who has too many.
    """
    seconds = round(PATIENCE_SECONDS)
    limits = {"connect_timeout": seconds, "read_timeout": seconds, "write_timeout": seconds}
    try:
        MySQLdb.connect(**params | limits).close()
    except MySQLdb.OperationalError as error:
        return error.args[0] not in NO_ANSWER
    return True
