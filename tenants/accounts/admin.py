"""Who has an account, on both sites; and a tenant's workspace, which other apps register their models with."""

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin
from django.template.response import TemplateResponse
from django.urls import get_script_prefix

from tenants.accounts.models import User
from tenants.context import current_tenant
from tenants.exceptions import TenantSuspendedError
from tenants.planes import Plane, current


class PlaneSite(admin.AdminSite):
    """An admin site that serves one plane, and nobody where another or none is bound."""

    plane: Plane
    site_url = None  # the site is all there is below its mount
    enable_nav_sidebar = False
    logout_template = "tenants/logged_out.html"

    def has_permission(self, request):
        # The user is asked for in any case: the answer says so (Vary), for a tenant that does not exist too.
        is_permitted, bound = super().has_permission(request), current()
        return is_permitted and bound is not None and bound.plane is self.plane

    def each_context(self, request):
        return super().each_context(request) | {"plane": self.plane, "plane_name": self.plane_name(request)}

    def plane_name(self, request) -> str:
        raise NotImplementedError


class WorkspaceLoginForm(AdminAuthenticationForm):
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

    def plane_name(self, request):
        """Before the log-in only what the visitor has typed: whether there is such a tenant is not theirs to know."""
        if self.has_permission(request):
            return current_tenant().name
        return get_script_prefix().rstrip("/").rpartition("/")[2]

    def login(self, request, extra_context=None):
        try:
            return super().login(request, extra_context)
        except TenantSuspendedError:
            return TemplateResponse(request, "tenants/suspended.html", self.each_context(request), status=403)


class AccountAdmin(UserAdmin):
    list_display = ["username", "email", "role", "is_active", "last_login"]
    list_filter = ["role", "is_active"]
    search_fields = ["username", "email"]
    filter_horizontal = ()
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Account", {"fields": ["email", "role", "is_active", "last_login"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "role", "usable_password", "password1", "password2"]})]
    readonly_fields = ["last_login"]

    def get_fieldsets(self, request, obj=None):
        """Who may only look sees no password, not even that there is one."""
        fieldsets = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj):
            return fieldsets
        return [(None, {"fields": ["username"]}), *fieldsets[1:]]


workspace_site = WorkspaceSite(name="admin")
workspace_site.register(User, AccountAdmin)
