"""Where a domain error becomes HTTP: one form, one place."""

import logging

from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response

from tenants.exceptions import (
    InvalidSlugError,
    InvalidTokenError,
    NoTenantError,
    SecretError,
    TenantError,
    TenantNotFoundError,
    TenantSuspendedError,
    TenantUnavailableError,
)

logger = logging.getLogger(__name__)

UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
RETRY_AFTER_SECONDS = "5"
# Status and the words a client sees. What the error itself says stays in the log: it may name what is not theirs.
ANSWERS: dict[type[Exception], tuple[int, dict[str, str]]] = {
    InvalidTokenError: (401, UNAUTHORISED),
    TenantNotFoundError: (401, UNAUTHORISED),
    InvalidSlugError: (401, UNAUTHORISED),
    TenantSuspendedError: (403, {"code": "tenant_suspended", "detail": "This account's organisation is suspended."}),
    TenantUnavailableError: (503, {"code": "tenant_unavailable", "detail": "In maintenance. Try again shortly."}),
    SecretError: (503, {"code": "tenant_unavailable", "detail": "In maintenance. Try again shortly."}),
    OperationalError: (503, {"code": "unavailable", "detail": "The database does not answer. Try again shortly."}),
}


def error_response(request, error: Exception) -> HttpResponse:
    """For errors that no view saw: JSON under ``/api/``, a sentence elsewhere."""
    status, body = _answer(error)
    if request.path.startswith("/api/"):
        response: HttpResponse = JsonResponse(body, status=status)
    else:
        response = HttpResponse(body["detail"], status=status, content_type="text/plain; charset=utf-8")
    return _with_headers(response, status)


def handle_exception(error: Exception, context) -> Response | None:
    """DRF's handler."""
    if isinstance(error, drf.ValidationError):
        body = {"code": "invalid", "detail": "The request is not valid.", "errors": error.get_full_details()}
        return Response(body, status=400)
    if isinstance(error, drf.APIException):
        return _from_drf(error)
    if isinstance(error, Http404):
        return Response({"code": "not_found", "detail": "Not found."}, status=404)
    if isinstance(error, PermissionDenied):
        return Response({"code": "permission_denied", "detail": "Your role does not allow this."}, status=403)
    if isinstance(error, TenantError | OperationalError):
        status, body = _answer(error)
        return _with_headers(Response(body, status=status), status)
    return None


def not_found(request, exception=None) -> HttpResponse:
    return JsonResponse({"code": "not_found", "detail": "Not found."}, status=404)


def server_error(request) -> HttpResponse:
    return JsonResponse({"code": "server_error", "detail": "Something went wrong here. It is logged."}, status=500)


def _from_drf(error: drf.APIException) -> Response:
    if isinstance(error, drf.NotAuthenticated | drf.AuthenticationFailed):
        return _with_headers(Response(UNAUTHORISED, status=401), 401)
    code = error.get_codes()
    response = Response(
        {"code": code if isinstance(code, str) else error.default_code, "detail": str(error.detail)},
        status=error.status_code,
    )
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(int(wait))
    return response


def _answer(error: Exception) -> tuple[int, dict[str, str]]:
    for kind, answer in ANSWERS.items():
        if isinstance(error, kind):
            if answer[0] == 503:
                logger.warning("%s: %s", type(error).__name__, error)
            return answer
    logger.error("An error without an answer of its own", exc_info=error)
    if isinstance(error, NoTenantError):
        return 404, {"code": "not_found", "detail": "Not found."}
    return 500, {"code": "server_error", "detail": "Something went wrong here. It is logged."}


def _with_headers(response, status: int):
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response["Retry-After"] = RETRY_AFTER_SECONDS
    response["Cache-Control"] = "no-store"
    return response
