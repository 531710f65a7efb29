"""
How often one account may ask in a minute, by whatever door: token, API key or session.

Each process counts by itself, in its memory: with eight processes it is up to eight times as many. That keeps a program
that has gone wild, or a copied token, from taking all threads; it is no quota. Who is nobody is not counted here:
log-ins are in tenants.accounts.tries, and the rest is a proxy's (docs/how-to/run-behind-a-proxy.md).
"""

import time
from threading import Lock

from django.conf import settings
from django.contrib.auth import SESSION_KEY

from config.api import TooManyRequests, error_response
from tenants.planes import here

WINDOW_SECONDS = 60


class RequestLimitMiddleware:
    """After sessions, so that it knows whose they are, and before any view."""

    def __init__(self, get_response):
        self.get_response = get_response
        self._lock = Lock()
        self._window = 0
        self._counts: dict[tuple[str, str], int] = {}

    def __call__(self, request):
        limit, account = settings.BULKHEAD_REQUESTS_PER_MINUTE, _account(request)
        if limit and account:
            now = time.time()
            if self._count((here() or "", account), int(now // WINDOW_SECONDS)) > limit:
                return error_response(request, TooManyRequests(int(WINDOW_SECONDS - now % WINDOW_SECONDS) + 1))
        return self.get_response(request)

    def _count(self, key: tuple[str, str], window: int) -> int:
        with self._lock:
            if window != self._window:  # the counts of the last minute are forgotten together
                self._window, self._counts = window, {}
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key]


def _account(request) -> str:
    """Its key in its plane; empty for nobody. The token or key has been verified, the session's row has been read."""
    if claims := getattr(request, "claims", None):
        return claims["sub"]
    return request.session.get(SESSION_KEY, "") if here() else ""
