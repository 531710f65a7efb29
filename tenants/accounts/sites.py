"""What every site of a plane is: who may be there, how they log in; and the workspace, which apps register with."""

from functools import partial, update_wrapper
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth import SESSION_KEY, authenticate, logout
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import get_script_prefix, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django.views.decorators.vary import vary_on_cookie

from tenants.accounts import passkeys, second_factor
from tenants.accounts.lists import OfferedAlone
from tenants.accounts.oidc_pages import BY_PROVIDER, back, provider_page, to_provider
from tenants.accounts.own_sessions import own_sessions_page
from tenants.accounts.passkey_page import passkey_page
from tenants.accounts.passkeys import BY_PASSKEY
from tenants.accounts.second_factor_page import second_factor_page
from tenants.accounts.sessions import begin_anew
from tenants.accounts.support import open_accesses
from tenants.accounts.tries import count_old_password
from tenants.audit.trail import record
from tenants.context import current_tenant
from tenants.exceptions import TenantSuspendedError, TooManyTriesError
from tenants.planes import Plane, current


class OwnPasswordForm(AdminPasswordChangeForm):
    def __init__(self, *args, tried, **kwargs):
        super().__init__(*args, **kwargs)
        self.tried = tried

    def clean_old_password(self):
        tried = self.tried()
        old_password = super().clean_old_password()
        tried.succeeded()
        return old_password


class OwnPasswordView(PasswordChangeView):
    form_class = OwnPasswordForm

    def get_form_kwargs(self):
        return super().get_form_kwargs() | {"tried": partial(count_old_password, self.request)}


class LoginForm(AdminAuthenticationForm):
    """
    Asks everybody for a code: that it was missing is told to nobody. What an authenticator has answered stands in place
    of all fields.
    """

    otp = forms.CharField(
        label="Code, if you have a second factor",
        required=False,
        max_length=32,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )

    def __init__(self, request: Any = None, *args, **kwargs):
        super().__init__(request, *args, **kwargs)
        self.request: Any = request
        self.answer = self.data.get("passkey")
        for name in self.fields if self.answer else ():
            self.fields[name].required = False

    def clean(self):
        """Django's, with the code, or with the passkey alone."""
        if self.answer:
            self._open_with(self.answer)
            return self.cleaned_data
        given = {name: self.cleaned_data.get(name) for name in ("username", "password", "otp")}
        if given["username"] is not None and given["password"]:
            self.user_cache = authenticate(self.request, **given)
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data

    def _open_with(self, answer: str) -> None:
        passkey = passkeys.open_with(self.request, answer)
        if passkey is None:
            raise ValidationError("This passkey opens nothing here.")
        self.confirm_login_allowed(passkey.user)
        self.user_cache, self.request.passkey = passkey.user, passkey


def is_strong(session) -> bool:
    """Opened with more than a password: by a provider, whose matter that is, or with a passkey."""
    return BY_PROVIDER in session or BY_PASSKEY in session


class PlaneSite(admin.AdminSite):
    """
    An admin site that serves one plane, and nobody where another or none is bound.

    Where it takes a password, the count of tries commits by itself: such a view has no transaction around it.
    """

    plane: Plane
    site_url = None  # the site is all there is below its mount
    enable_nav_sidebar = False
    logout_template = "tenants/logged_out.html"
    login_form = LoginForm

    def register(self, model_or_iterable, admin_class=None, **options):
        admin_class = admin_class or admin.ModelAdmin
        super().register(model_or_iterable, type(admin_class.__name__, (OfferedAlone, admin_class), {}), **options)

    def has_permission(self, request):
        # The user is asked for in any case: the answer says so (Vary), for a tenant that does not exist too.
        is_permitted, bound = super().has_permission(request), current()
        return is_permitted and bound is not None and bound.plane is self.plane

    def each_context(self, request):
        return super().each_context(request) | {"plane": self.plane, "plane_name": self.plane_name(request)}

    def plane_name(self, request) -> str:
        raise NotImplementedError

    @transaction.non_atomic_requests
    @method_decorator(never_cache)
    def login(self, request, extra_context=None):
        was_logged_in = request.method == "POST" and SESSION_KEY in request.session
        try:
            response = self._log_in(request, extra_context)
        except TooManyTriesError as error:
            return self.too_many_tries(request, error)
        if was_logged_in and response.status_code == 302:
            begin_anew(request.session)  # Django keeps the session of whoever logs in again
        return response

    def _log_in(self, request, extra_context):
        origin = {"passkey_origin": passkeys.site()[1]}
        response = super().login(request, (extra_context or {}) | origin)
        if request.method == "POST" and request.user.is_authenticated and response.status_code == 302:
            facts = {}
            if passkey := getattr(request, "passkey", None):
                request.session[BY_PASSKEY] = str(passkey.pk)
                facts = {"passkey": passkey.name}
            record("logged_in", request.user, **facts)
        return response

    def logout(self, request, extra_context=None):
        if request.method == "POST" and request.user.is_authenticated:
            record("logged_out", request.user)
        return super().logout(request, extra_context)

    def get_urls(self):
        view = self.admin_view
        return [
            path("second-factor/", view(self.second_factor), name="second_factor"),
            path("open-sessions/", view(self.own_sessions), name="own_sessions"),
            path("passkeys/", view(self.passkeys), name="passkeys"),
            path("login/passkey/", self.passkey_options, name="passkey_options"),
            *super().get_urls(),
        ]

    def admin_view(self, view, cacheable=False):
        """Who has to enrol a second factor first may do that, and leave. What a removed passkey opened has ended."""
        inner = super().admin_view(view, cacheable)

        def page(request, *args, **kwargs):
            if self.has_permission(request) and passkeys.has_ended(request):
                logout(request)
            is_open = view in (self.second_factor, self.passkeys, self.logout) or not self.has_permission(request)
            if is_open or is_strong(request.session) or not second_factor.must_enrol(request.user):
                return inner(request, *args, **kwargs)
            return HttpResponseRedirect(reverse("admin:second_factor", current_app=self.name))

        return update_wrapper(page, inner)

    @method_decorator(never_cache)
    def passkey_options(self, request):
        """The user is asked for in any case: the answer says so (Vary), for a tenant that does not exist too."""
        self.has_permission(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return JsonResponse(passkeys.log_in_options(request))

    @transaction.non_atomic_requests
    def passkeys(self, request):
        return self._own_page(request, passkey_page)

    @transaction.non_atomic_requests
    def second_factor(self, request):
        return self._own_page(request, second_factor_page)

    @transaction.non_atomic_requests
    def own_sessions(self, request):
        return self._own_page(request, own_sessions_page)

    def _own_page(self, request, page):
        request.current_app = self.name
        try:
            return page(request, self.each_context(request))
        except TooManyTriesError as error:
            return self.too_many_tries(request, error)

    @transaction.non_atomic_requests
    def password_change(self, request, extra_context=None):
        """Django's, with a form of ours, which cannot be given to it."""
        request.current_app = self.name
        view = OwnPasswordView.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context=self.each_context(request) | (extra_context or {}),
        )
        try:
            return view(request)
        except TooManyTriesError as error:
            return self.too_many_tries(request, error)

    def too_many_tries(self, request, error: TooManyTriesError):
        headers = {"Retry-After": str(error.retry_after)}
        context = self.each_context(request) | {"title": "Too many tries", "minutes": -(-error.retry_after // 60)}
        return TemplateResponse(request, "tenants/too_many_tries.html", context, status=429, headers=headers)


class WorkspaceLoginForm(LoginForm):
    def confirm_login_allowed(self, user):
        super().confirm_login_allowed(user)
        if current_tenant().state == "suspended":
            raise TenantSuspendedError("A member of a suspended tenant logged in.")


class WorkspaceSite(PlaneSite):
    """``/t/<slug>/``: the bound tenant's data. Unbound, which is what an unknown slug is, it shows a log-in form."""

    plane = Plane.TENANT
    site_header = "Bulkhead"
    site_title = "Bulkhead"
    index_title = "Workspace"
    login_form = WorkspaceLoginForm

    def get_urls(self):
        return [
            path("oidc/", self.admin_view(self.identity_provider), name="oidc_provider"),
            path("oidc/login/", self.oidc_login, name="oidc_login"),
            path("oidc/callback/", self.oidc_callback, name="oidc_callback"),
            *super().get_urls(),
        ]

    @transaction.non_atomic_requests
    def identity_provider(self, request):
        return provider_page(request, self.each_context(request))

    # Where nothing is bound no session is looked for, and the answer to another method would not say so.
    @method_decorator([never_cache, vary_on_cookie, require_POST])
    def oidc_login(self, request):
        return to_provider(request, self.each_context(request))

    @method_decorator([never_cache, vary_on_cookie, require_GET])
    def oidc_callback(self, request):
        try:
            return back(request, self.each_context(request))
        except TooManyTriesError as error:
            return self.too_many_tries(request, error)

    def plane_name(self, request):
        """Before the log-in only what the visitor has typed: whether there is such a tenant is not theirs to know."""
        if self.has_permission(request):
            return current_tenant().name
        return get_script_prefix().rstrip("/").rpartition("/")[2]

    def each_context(self, request):
        """With what every page tells its readers; and an owner, that somebody waits for an answer."""
        context = super().each_context(request)
        if context["has_permission"]:
            accesses = open_accesses()
            context["support_granted"] = [access for access in accesses if access.granted_at]
            if request.user.has_perm("accounts.grant_supportaccess"):
                context["support_asked"] = [access for access in accesses if not access.granted_at]
        return context

    def _log_in(self, request, extra_context):
        try:
            return super()._log_in(request, extra_context)
        except TenantSuspendedError:
            return TemplateResponse(request, "tenants/suspended.html", self.each_context(request), status=403)


workspace_site = WorkspaceSite(name="admin")
