"""Argon2id, and no more of it at once than memory is there for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher

from tenants.exceptions import TooBusyError

WAIT_SECONDS = 5.0  # for one's turn


@cache
def _turns() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(settings.BULKHEAD_PARALLEL_HASHES)


@contextmanager
def _in_turn() -> Iterator[None]:
    if not _turns().acquire(timeout=WAIT_SECONDS):
        raise TooBusyError("Too many passwords are being hashed in this process.")
    try:
        yield
    finally:
        _turns().release()


class BoundedArgon2(Argon2PasswordHasher):
    """
    64 MiB and three passes, the work of RFC 9106's second recommendation, on one thread: how many run at once is the
    setting's to say. Django's own 100 MiB and two passes on eight threads took longer (docs/adr/0013).

    Raises ``TooBusyError`` for whoever has waited for too long.
    """

    time_cost = 3
    memory_cost = 64 * 1024
    parallelism = 1

    def encode(self, password, salt):
        with _in_turn():
            return super().encode(password, salt)

    def verify(self, password, encoded):
        with _in_turn():
            return super().verify(password, encoded)
