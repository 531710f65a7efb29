"""
Sessions of both sites end an hour after they were last used, and twelve hours after the log-in however much they are.

Django's expiry is the first of these, counted from when the session was last written: which is once a minute here.
"""

import time

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout

from tenants.planes import current

WRITTEN_EVERY_SECONDS = 60


def begin_anew(session) -> None:
    """As at the first log-in: under another key, the former being nothing any more, and for twelve hours."""
    session.pop("began_at", None)
    session.cycle_key()


class SessionLimitsMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        # Nothing is bound, or a token has bound it: there is no session, whatever cookies come along.
        if current() is None or hasattr(request, "claims"):
            return self.get_response(request)
        session, now = request.session, time.time()
        if SESSION_KEY in session:
            if now - session.get("began_at", now) > settings.BULKHEAD_SESSION_LIFETIME.total_seconds():
                logout(request)
            elif now - session.get("written_at", 0) > WRITTEN_EVERY_SECONDS:
                session["written_at"] = now
        response = self.get_response(request)
        if SESSION_KEY in session and "began_at" not in session:  # this request was the log-in
            session["began_at"] = session["written_at"] = now
        return response
