"""
A scan's events as a stream (Server-Sent Events, WHATWG HTML 9.2): what it became, and how far it is.

States have ids, so that who reconnects with ``Last-Event-ID`` misses none; progress has none, and is told anew. A
stream ends by itself after a while, as it occupies a thread of its server: a browser's EventSource opens the next one.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from django.conf import settings

from scans.models import Scan, ScanEvent
from tenants.bulkheads import places_of_a_tenant
from tenants.context import current_tenant
from tenants.exceptions import TenantError, TooBusyError

LOOK_SECONDS = 0.5
SILENCE_SECONDS = 10.0
COLUMNS = "sequence", "state", "reason", "fence", "at"

_open: Counter = Counter()
_lock = threading.Lock()


def streams_of_a_tenant() -> int:
    """In this process: half of the tenant's places, so that who watches their scans can do something else too."""
    return max(1, places_of_a_tenant() // 2)


class ScanStream:
    """
    Iterate it bound to its tenant, and close it. ``require_open`` is asked before each look, and ends the stream by
    raising ``TenantError``. Raises ``TooBusyError`` when this process has as many of the tenant's streams as it may.
    """

    def __init__(self, scan: Scan, after: int, require_open: Callable[[], object]):
        self._tenant_id = current_tenant().id
        with _lock:
            if _open[self._tenant_id] >= streams_of_a_tenant():
                raise TooBusyError("This process has as many streams of the tenant as it may.")
            _open[self._tenant_id] += 1
        self._is_open = True
        self._lines = _lines(scan, after, require_open)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def close(self) -> None:
        """Again changes nothing. A generator that was never begun would not notice."""
        with _lock:
            if self._is_open:
                self._is_open = False
                _open.subtract([self._tenant_id])
                if not _open[self._tenant_id]:
                    del _open[self._tenant_id]


def _lines(scan: Scan, after: int, require_open: Callable[[], object]) -> Iterator[str]:
    yield "retry: 2000\n\n"
    ends_at = time.monotonic() + settings.BULKHEAD_STREAM_SECONDS
    shown, spoke_at = None, time.monotonic()
    while True:
        try:
            require_open()
        except TenantError:
            return
        # Before the events: none is written after the one of its end.
        now = Scan.objects.values("state", "progress", "message").get(pk=scan.pk)
        for event in ScanEvent.objects.filter(scan=scan, sequence__gt=after).values(*COLUMNS, "by__username"):
            after = event["sequence"]
            yield _message("state", event | {"at": event["at"].isoformat(), "by": event.pop("by__username")}, after)
            spoke_at = time.monotonic()
        if now["state"] in Scan.ENDED:
            return
        if now != shown:
            shown, spoke_at = now, time.monotonic()
            yield _message("progress", now)
        elif time.monotonic() - spoke_at >= SILENCE_SECONDS:
            spoke_at = time.monotonic()
            yield ":\n\n"  # so that nobody between takes the connection for dead
        if time.monotonic() >= ends_at:
            return
        time.sleep(LOOK_SECONDS)


def _message(kind: str, data: Mapping, number: int | None = None) -> str:
    prefix = "" if number is None else f"id: {number}\n"
    return f"{prefix}event: {kind}\ndata: {json.dumps(data)}\n\n"
