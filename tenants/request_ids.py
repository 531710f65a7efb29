"""One name for a request, in its answer and in every log line that it causes; and whose line it is."""

import logging
import re
import uuid
from contextvars import ContextVar

from tenants.planes import Bound, current

WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")

request_id: ContextVar[str] = ContextVar("bulkhead_request_id", default="-")


class RequestIDMiddleware:
    """``X-Request-ID``: taken from the client when well-formed, else made; on every answer and in every log line."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        given = request.headers.get("X-Request-ID", "")
        request.id = given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(request.id)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["X-Request-ID"] = request.id
        return response


class RequestIDFilter(logging.Filter):
    """
    Gives log records ``request_id``, and ``tenant``: a slug, the name of another plane, or ``-``. Django logs refusals
    after the middleware, with the request on the record.
    """

    def filter(self, record):
        request = getattr(record, "request", None)
        record.request_id = getattr(request, "id", None) or request_id.get()
        record.tenant = getattr(request, "plane", None) or plane_name(current())
        return True


def plane_name(bound: Bound | None) -> str:
    if bound is None:
        return "-"
    return bound.record.snapshot.slug if bound.record else str(bound.plane)
