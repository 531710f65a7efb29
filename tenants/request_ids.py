"""One name for a request, in its answer and in every log line that it causes."""

import logging
import re
import uuid
from contextvars import ContextVar

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
    """Gives log records ``request_id``. Django logs refusals after the middleware, with the request on the record."""

    def filter(self, record):
        record.request_id = getattr(getattr(record, "request", None), "id", None) or request_id.get()
        return True
