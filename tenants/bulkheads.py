"""
How much of a process one tenant may hold: a quarter of its threads, whatever they wait for.

Counted before the tenant's database is asked for anything, and given back when the answer is out, or its body is.
"""

import os
import threading
import weakref
from collections import Counter, deque
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponseBase

from tenants.exceptions import TooBusyError

_held: Counter[UUID] = Counter()
_dropped: deque["Place"] = deque()  # whose bodies nobody closed; the collector, which may run anywhere, takes no lock
_lock = threading.Lock()


def places_of_a_tenant() -> int:
    return max(1, settings.BULKHEAD_THREADS // 4)


class Place:
    """One request's, for the length of a ``with`` block. Raises ``TooBusyError`` when the tenant has no more."""

    def __init__(self, tenant_id: UUID):
        self._tenant_id = tenant_id
        self._is_kept = self._is_left = False

    def __enter__(self) -> "Place":
        with suppress(IndexError):
            while True:
                _dropped.popleft().leave()
        with _lock:
            if _held[self._tenant_id] >= places_of_a_tenant():
                raise TooBusyError("This process does as much for the tenant at once as it may.")
            _held[self._tenant_id] += 1
        return self

    def __exit__(self, *error) -> None:
        if not self._is_kept:
            self.leave()

    def keep_for_body(self, response: Any) -> HttpResponseBase:
        """A streamed body is made after its request's block, and occupies its thread all the while."""
        if response.streaming:
            self._is_kept = True
            response._resource_closers.append(self.leave)
            weakref.finalize(response, _dropped.append, self).atexit = False
        return response

    def leave(self) -> None:
        """Again changes nothing."""
        with _lock:
            if not self._is_left:
                self._is_left = True
                _held[self._tenant_id] -= 1
                if not _held[self._tenant_id]:
                    del _held[self._tenant_id]


def start_over() -> None:
    """In a forked child: the requests are its parent's."""
    global _lock
    _lock = threading.Lock()
    _held.clear()
    _dropped.clear()


os.register_at_fork(after_in_child=start_over)
