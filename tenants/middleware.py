"""
Which plane a request belongs to, bound around the view, each step of the response's body, and its finalisers.

``settings.PLANE_PATHS`` says how a path finds its plane; whatever is not listed there is unbound.
"""

import time
from contextlib import nullcontext

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import BadRequest
from django.db import OperationalError, transaction
from django.http import HttpResponseBase, UnreadablePostError
from django.urls import get_script_prefix, get_urlconf, resolve, set_script_prefix, set_urlconf
from django.utils.module_loading import import_string

from tenants.accounts.api_keys import MARK, require_key, tenant_of_key
from tenants.accounts.logins import require_standing
from tenants.accounts.tries import wait_for_step
from tenants.audit.provenance import acting
from tenants.audit.trail import record
from tenants.bodies import keep_bound
from tenants.bulkheads import Place
from tenants.context import control_plane, login_context, tenant_context
from tenants.exceptions import (
    InvalidSlugError,
    InvalidTokenError,
    TenantError,
    TenantNotFoundError,
    TenantSuspendedError,
    TenantUnavailableError,
)
from tenants.models import validate_slug
from tenants.mounts import read_cookies, stay_inside
from tenants.planes import current
from tenants.registry import registry
from tenants.request_ids import plane_name, request_id
from tenants.sentinel import unchanged, unit_of_work
from tenants.tokens import tenant_of, verify

NOBODY = AnonymousUser()
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class PlaneMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response
        self.error_response = import_string(settings.TENANT_ERROR_RESPONSE)

    def __call__(self, request):
        """Begins and ends unbound, whatever this thread was left with and whatever the view leaves."""
        request.began_at = time.monotonic()
        response = self._answer(request)
        wait_for_step(request)
        return response

    def _answer(self, request):
        prefix, kind = next((each for each in settings.PLANE_PATHS if _is_under(request, each[0])), ("", "unbound"))
        with acting("request", request), unit_of_work(f"request {request_id.get()}"):
            try:
                if request.method not in SAFE_METHODS:
                    _receive(request)
                return getattr(self, f"_{kind}")(request, prefix)
            except (TenantError, OperationalError) as error:
                return self.error_response(request, error)

    def process_exception(self, request, exception):
        if isinstance(exception, TenantError | OperationalError):
            return self.error_response(request, exception)
        return None

    def _unbound(self, request, prefix):
        return self.get_response(request)

    def _control(self, request, prefix):
        mount = get_script_prefix() + prefix.lstrip("/")
        read_cookies(request, "operator")
        with control_plane():
            return stay_inside(mount, self._respond(request), "operator")

    def _token(self, request, prefix):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidTokenError("There is no token.")
        token, is_unsafe = token.strip(" "), request.method not in SAFE_METHODS
        claims = None if token.startswith(MARK) else verify(token)
        tenant = tenant_of(claims) if claims else tenant_of_key(token)
        if is_unsafe:
            registry.look()
        with Place(tenant) as place:
            if claims:
                with tenant_context(tenant):
                    request.claims, request.role = claims, require_standing(claims, at_once=is_unsafe)
                    return place.keep_for_body(self._respond(request))
            with login_context(tenant) as snapshot:  # the key is no proof before its tenant's database has been asked
                key = require_key(token)
                if snapshot.state == "suspended":
                    raise TenantSuspendedError("An API key of a suspended tenant was used.")
                request.claims, request.role = {"sub": str(key.user_id), "api_key": str(key.pk)}, key.role
                return place.keep_for_body(self._respond(request))

    def _path(self, request, prefix):
        """
        A tenant's workspace, mounted at ``/t/<slug>/`` as if it were an application of its own. A slug that nobody
        has gets the same pages, unbound: a log-in form that always fails.
        """
        slug, slash, rest = request.path_info.removeprefix(prefix).partition("/")
        try:
            if request.method not in SAFE_METHODS:
                registry.look()
            asked = registry.get(validate_slug(slug)).snapshot
            state, place = asked.state, Place(asked.id)
        except TenantNotFoundError:
            state, place = "unknown", None
        except InvalidSlugError:
            slash = ""
        if not slash:
            return self.get_response(request)
        outer_prefix, outer_urlconf = get_script_prefix(), get_urlconf()
        mount = f"{outer_prefix}{prefix.lstrip('/')}{slug}/"
        binding = {"active": tenant_context, "suspended": login_context, "maintenance": tenant_context}.get(state)
        read_cookies(request, slug, log_in_too=state == "active")
        request.path_info = f"/{rest}"
        request.asked_tenant = slug
        request.urlconf = settings.WORKSPACE_URLCONF
        set_script_prefix(mount)
        try:
            with place or nullcontext(), binding(slug) if binding else nullcontext():
                response = self._respond(request)
                if place:
                    place.keep_for_body(response)
            if not getattr(request, "session", None) or not request.session.modified:
                # Django deletes the cookie of a session that its database has not: that would tell that there is one.
                response.cookies.pop("sessionid", None)
            return stay_inside(mount, response, slug)
        finally:
            set_script_prefix(outer_prefix)
            set_urlconf(outer_urlconf)

    def _respond(self, request) -> HttpResponseBase:
        bound = current()
        if bound is None:
            return self.get_response(request)
        request.plane = plane_name(bound)
        with unchanged(f"request {request_id.get()}"):
            response = self._view(request)
            if response.status_code == 403 and getattr(request, "user", NOBODY).is_authenticated:
                record("refused", method=request.method, path=request.path[:200])  # after what it undid
        return keep_bound(response, bound)

    def _view(self, request) -> HttpResponseBase:
        """One transaction per unsafe request, rolled back when the answer is an error."""
        if request.method in SAFE_METHODS or _is_non_atomic(request):
            return self.get_response(request)
        with transaction.atomic():
            response = self.get_response(request)
            if response.status_code >= 400:
                transaction.set_rollback(True)
            elif transaction.get_rollback():
                raise TenantUnavailableError("The view answered as if it had done what its database had undone.")
            return response


def _receive(request) -> None:
    """
    The whole body, however long its sender takes: before a transaction waits for it, and before anybody asks who they
    are and what they may, which would be as old as that. Raises ``RequestDataTooBig``, for forms with files too.
    """
    try:
        request.body  # noqa: B018  kept by the request from here on
    except UnreadablePostError as error:
        raise BadRequest("The body did not arrive.") from error


def _is_non_atomic(request) -> bool:
    """A view under Django's ``transaction.non_atomic_requests`` commits what an error must not undo."""
    view = resolve(request.path_info, getattr(request, "urlconf", None)).func
    return hasattr(view, "_non_atomic_requests")


def _is_under(request, prefix: str) -> bool:
    return request.path_info.startswith(prefix) if prefix.endswith("/") else request.path_info == prefix
