"""Where a domain error becomes HTTP: one form, one place."""

import logging
import sys

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf
from rest_framework.response import Response

from scans.exceptions import ScanRefused, TooManyScans
from tenants.exceptions import (
    DatabaseBehindError,
    DatabaseReadOnlyError,
    DatabaseSilentError,
    DeletedMeanwhileError,
    InvalidSlugError,
    InvalidTokenError,
    InvitationPendingError,
    LastOwnerError,
    NoTenantError,
    NotInvitedError,
    SecondFactorRequiredError,
    SecretError,
    StaleVersionError,
    SupportAccessError,
    TenantNotFoundError,
    TenantSuspendedError,
    TenantUnavailableError,
    TooBusyError,
    TooManyMailsError,
    TooManyTriesError,
)

logger = logging.getLogger(__name__)


class MethodUnknown(Exception):
    """Nothing here has this method."""


class HttpsRequired(Exception):
    """A program asked without TLS where TLS is used."""


class CSRFFailure(Exception):
    """A form came without its token, or from another site."""


class TooManyRequests(Exception):
    """One account asked more often than one may. ``retry_after``: in so many seconds it may again."""

    def __init__(self, retry_after: int):
        super().__init__(f"again in {retry_after} s")
        self.retry_after = retry_after


Body = dict[str, str]
UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}
NOT_FOUND = {"code": "not_found", "detail": "Not found."}
BAD_REQUEST = {"code": "bad_request", "detail": "The request is malformed."}
SERVER_ERROR = {"code": "server_error", "detail": "Something went wrong here. It is logged."}
STALE = {"code": "stale", "detail": "Somebody else has changed this since you read it: nothing is written."}
IN_MAINTENANCE = {"code": "tenant_unavailable", "detail": "In maintenance. Try again shortly."}
RETRY_AFTER_SECONDS = "5"
SILENT = {"code": "unavailable", "detail": "The database does not answer. Try again shortly."}
# Status and the words a client sees. What the error itself says stays in the log: it may name what is not theirs.
ANSWERS: dict[type[Exception], tuple[int, Body]] = {
    InvalidTokenError: (401, UNAUTHORISED),
    TenantNotFoundError: (401, UNAUTHORISED),
    InvalidSlugError: (401, UNAUTHORISED),
    TenantSuspendedError: (403, {"code": "tenant_suspended", "detail": "This account's organisation is suspended."}),
    SecondFactorRequiredError: (
        403,
        {"code": "second_factor_required", "detail": "Your organisation requires a second factor: enrol one first."},
    ),
    PermissionDenied: (403, {"code": "permission_denied", "detail": "Your role does not allow this."}),
    drf.PermissionDenied: (403, {"code": "permission_denied", "detail": "Your role does not allow this."}),
    drf.NotAuthenticated: (401, UNAUTHORISED),
    drf.AuthenticationFailed: (401, UNAUTHORISED),
    drf.NotFound: (404, NOT_FOUND),
    Http404: (404, NOT_FOUND),
    NoTenantError: (404, NOT_FOUND),
    IntegrityError: (409, {"code": "conflict", "detail": "It clashes with what somebody else has just written."}),
    CSRFFailure: (
        403,
        {"code": "csrf_failed", "detail": "This form is not from here, or it is too old. Load it again."},
    ),
    MethodUnknown: (405, {"code": "method_not_allowed", "detail": "Nothing here has this method."}),
    HttpsRequired: (400, {"code": "https_required", "detail": "Ask by https. What was sent has gone in clear."}),
    SupportAccessError: (
        409,
        {
            "code": "support_access_refused",
            "detail": "It has been decided or has ended, or less than this was asked for.",
        },
    ),
    LastOwnerError: (409, {"code": "last_owner", "detail": "Nobody else is an active owner."}),
    InvitationPendingError: (409, {"code": "invitation_pending", "detail": "The invitation is not accepted yet."}),
    NotInvitedError: (409, {"code": "not_invited", "detail": "The account is in use: its invitation is over."}),
    RequestDataTooBig: (413, {"code": "too_large", "detail": "The body is too large."}),
    StaleVersionError: (409, STALE),
    DeletedMeanwhileError: (404, NOT_FOUND),
    DataError: (400, BAD_REQUEST),
    SuspiciousOperation: (400, BAD_REQUEST),
    BadRequest: (400, BAD_REQUEST),
    TooManyTriesError: (429, {"code": "too_many_tries", "detail": "Too many tries have failed. Try again later."}),
    TooManyRequests: (429, {"code": "too_many_requests", "detail": "This account asks too often. Try again shortly."}),
    TooManyMailsError: (429, {"code": "too_many_mails", "detail": "Too many members were invited. Try again later."}),
    TooBusyError: (503, {"code": "too_busy", "detail": "Too much is asked for at once. Try again shortly."}),
    DatabaseSilentError: (503, SILENT),
    DatabaseReadOnlyError: (
        503,
        {"code": "read_only", "detail": "Nothing can be written at present; reading goes on. Try again shortly."},
    ),
    DatabaseBehindError: (
        503,
        {"code": "database_behind", "detail": "The database is yet to be brought up to date. Try again shortly."},
    ),
    TenantUnavailableError: (503, IN_MAINTENANCE),
    SecretError: (503, IN_MAINTENANCE),
    OperationalError: (503, SILENT),
}
# Answered, and yet a fault of ours: it is logged with its traceback.
FAULTS = (NoTenantError, DataError)


def error_response(request, error: BaseException | None) -> HttpResponse:
    """For errors that no view of the API answered: JSON under ``/api/``, a sentence elsewhere."""
    status, body = _answer(error)
    if request.path.startswith("/api/"):
        # As DRF writes it, so that who refused cannot be told from the bytes.
        compact = {"separators": (",", ":"), "ensure_ascii": False}
        response: HttpResponse = JsonResponse(body, status=status, json_dumps_params=compact)
    else:
        response = HttpResponse(body["detail"], status=status, content_type="text/plain; charset=utf-8")
    return _with_headers(response, status, error)


def handle_exception(error: Exception, context) -> Response | None:
    """DRF's handler. What has no answer here goes on to Django, which logs it and asks ``server_error``."""
    if isinstance(error, drf.ValidationError):
        details = error.get_full_details()
        errors = details if isinstance(details, dict) else {"non_field_errors": details}
        return Response({"code": "invalid", "detail": "The request is not valid.", "errors": errors}, status=400)
    if isinstance(error, StaleVersionError):
        return Response(STALE | {"version": error.version, "errors": _both_values(error)}, status=409)
    if isinstance(error, ScanRefused):
        status = 429 if isinstance(error, TooManyScans) else 409
        return _with_headers(Response({"code": error.code, "detail": error.detail}, status=status), status, error)
    if isinstance(error, tuple(ANSWERS)):
        status, body = _answer(error)
        return _with_headers(Response(body, status=status), status, error)
    if isinstance(error, drf.APIException):
        return _from_drf(error)
    return None


def _both_values(error: StaleVersionError) -> dict[str, dict]:
    return {name: {"yours": yours, "theirs": theirs} for name, (yours, theirs) in error.fields.items()}


def bad_request(request, exception=None) -> HttpResponse:
    return error_response(request, exception or BadRequest())


@csrf_exempt  # also the view of every path that nobody has: a POST there is told so, and nothing of CSRF
def not_found(request, exception=None) -> HttpResponse:
    return error_response(request, Http404())


def csrf_failure(request, reason="") -> HttpResponse:
    return error_response(request, CSRFFailure())


def server_error(request) -> HttpResponse:
    """Django calls this while it handles the error, which may well be one that has an answer."""
    return error_response(request, sys.exc_info()[1])


def _from_drf(error: drf.APIException) -> Response:
    code = error.get_codes()
    response = Response(
        {"code": code if isinstance(code, str) else error.default_code, "detail": str(error.detail)},
        status=error.status_code,
    )
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(int(wait))
    return response


def _answer(error: BaseException | None) -> tuple[int, Body]:
    for kind, answer in ANSWERS.items():
        if isinstance(error, kind):
            if isinstance(error, FAULTS):
                logger.error("An answered fault", exc_info=error)
            elif answer[0] in (409, 503):
                logger.warning("%s: %s", type(error).__name__, error)
            return answer
    logger.error("An error without an answer of its own", exc_info=error)
    return 500, SERVER_ERROR


def _with_headers(response, status: int, error: BaseException | None):
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        response["Retry-After"] = str(getattr(error, "retry_after", RETRY_AFTER_SECONDS))
    return response
