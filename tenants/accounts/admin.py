"""Who has an account, on both sites; and a tenant's workspace, which other apps register their models with."""

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin

from tenants.accounts.models import User
from tenants.context import current_tenant
from tenants.exceptions import TenantSuspendedError
from tenants.planes import Plane, current


class WorkspaceLoginForm(AdminAuthenticationForm):
    def confirm_login_allowed(self, user):
        super().confirm_login_allowed(user)
        if current_tenant().state == "suspended":
            raise TenantSuspendedError("A member of a suspended tenant logged in.")


class WorkspaceSite(admin.AdminSite):
    """``/t/<slug>/``: the bound tenant's data. Unbound, which is what an unknown slug is, it shows a log-in form."""

    site_header = "Bulkhead"
    site_title = "Bulkhead workspace"
    index_title = "Workspace"
    login_form = WorkspaceLoginForm
    enable_nav_sidebar = False

    def has_permission(self, request):
        bound = current()
        return bound is not None and bound.plane is Plane.TENANT and super().has_permission(request)


class AccountAdmin(UserAdmin):
    list_display = ["username", "email", "role", "is_active", "last_login"]
    list_filter = ["role", "is_active"]
    search_fields = ["username", "email"]
    filter_horizontal: list[str] = []
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Account", {"fields": ["email", "role", "is_active", "last_login"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "role", "usable_password", "password1", "password2"]})]
    readonly_fields = ["last_login"]


workspace_site = WorkspaceSite(name="admin")
workspace_site.register(User, AccountAdmin)
