"""
Which plane a request belongs to, bound around the view, each step of the response's body, and its finalisers.

``settings.PLANE_PATHS`` says how a path finds its plane; whatever is not listed there is unbound.
"""

import re
import uuid
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from django.conf import settings
from django.db import transaction
from django.http import HttpResponseBase
from django.urls import get_script_prefix, set_script_prefix
from django.utils.module_loading import import_string

from tenants.context import control_plane, login_context, tenant_context
from tenants.exceptions import InvalidTokenError, TenantError, TenantNotFoundError
from tenants.planes import Bound, _bound, current
from tenants.registry import registry
from tenants.tokens import tenant_of, verify

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
PLANE_COOKIES = ("sessionid", "csrftoken", "messages")
WELL_FORMED_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

request_id: ContextVar[str] = ContextVar("bulkhead_request_id", default="-")


class RequestIDMiddleware:
    """``X-Request-ID``: taken from the client when well-formed, else made; on every answer and in every log line."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        given = request.headers.get("X-Request-ID", "")
        request.id = given if WELL_FORMED_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(request.id)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["X-Request-ID"] = request.id
        return response


class PlaneMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response
        self.error_response = import_string(settings.TENANT_ERROR_RESPONSE)

    def __call__(self, request):
        kind = next((kind for prefix, kind in settings.PLANE_PATHS if request.path_info.startswith(prefix)), "unbound")
        try:
            return getattr(self, f"_{kind}")(request)
        except TenantError as error:
            return self.error_response(request, error)

    def _unbound(self, request):
        return self.get_response(request)

    def _control(self, request):
        prefix = next(prefix for prefix, kind in settings.PLANE_PATHS if request.path_info.startswith(prefix))
        with control_plane(), _cookies_of(request, "operator", prefix) as rename:
            return rename(self._respond(request))

    def _token(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidTokenError("There is no token.")
        request.claims = verify(token.strip())
        with tenant_context(tenant_of(request.claims)):
            return self._respond(request)

    def _path(self, request):
        """
        A tenant's workspace, mounted at ``/t/<slug>/`` as if it were an application of its own. A slug that nobody
        has gets the same pages, unbound: a log-in form that always fails.
        """
        _, mount, slug, rest = request.path_info.split("/", 3) if request.path_info.count("/") > 2 else ("", "t", "", "")
        prefix = f"/{mount}/{slug}/"
        try:
            state = registry.get(slug).snapshot.state
        except TenantNotFoundError:
            state = "unknown"
        binding = {"active": tenant_context, "suspended": login_context, "maintenance": tenant_context}.get(state)
        outer_prefix = get_script_prefix()
        set_script_prefix(prefix)
        request.path_info = f"/{rest}"
        request.urlconf = settings.WORKSPACE_URLCONF
        try:
            with binding(slug) if binding else nullcontext(), _cookies_of(request, slug, prefix, state == "active") as rename:
                return rename(self._respond(request))
        finally:
            set_script_prefix(outer_prefix)

    def _respond(self, request) -> HttpResponseBase:
        """One transaction per unsafe request, rolled back when the answer is an error."""
        bound = current()
        if bound is None or request.method in SAFE_METHODS:
            response = self.get_response(request)
        else:
            with transaction.atomic():
                response = self.get_response(request)
                if response.status_code >= 400:
                    transaction.set_rollback(True)
        if bound is not None:
            _bind_body(response, bound)
        return response


@contextmanager
def _cookies_of(request, plane: str, path: str, are_read: bool = True):
    """
    Django's cookies under this plane's names and path: log-ins to two tenants stand side by side in one browser, and
    neither is sent to the other.
    """
    names = {name: f"{name}_{plane}" for name in PLANE_COOKIES}
    for name, own in names.items():
        request.COOKIES.pop(name, None)
        if own in request.COOKIES and (are_read or name == "csrftoken"):
            request.COOKIES[name] = request.COOKIES[own]

    def rename(response):
        for name, own in names.items():
            if (morsel := response.cookies.pop(name, None)) is not None:
                response.cookies[own] = morsel.value
                response.cookies[own].update(morsel)
                response.cookies[own]["path"] = path
        return response

    yield rename


@contextmanager
def _resumed(bound: Bound):
    """Unconditional: an abandoned body is finalised in whatever task the collector happens to run."""
    token = _bound.set(bound)
    try:
        yield
    finally:
        _bound.reset(token)


def _bind_body(response: HttpResponseBase, bound: Bound) -> None:
    closers = response._resource_closers
    response._resource_closers = [_in(bound, closer) for closer in closers]
    if response.streaming:
        kind = _AsyncBody if response.is_async else _Body
        response.streaming_content = kind(response.streaming_content, bound)


def _in(bound: Bound, act: Callable[[], object]) -> Callable[[], object]:
    def acting():
        with _resumed(bound):
            return act()

    return acting


class _Body:
    def __init__(self, body, bound: Bound):
        self.body = iter(body)
        self.bound = bound

    def __iter__(self):
        return self

    def __next__(self):
        with _resumed(self.bound):
            return next(self.body)


class _AsyncBody:
    def __init__(self, body, bound: Bound):
        self.body = aiter(body)
        self.bound = bound

    def __aiter__(self):
        return self

    async def __anext__(self):
        with _resumed(self.bound):
            return await anext(self.body)
