"""The operator console: what the control database holds, to look at. Life-cycle changes are commands."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe

from tenants.accounts.admin import AccountAdmin
from tenants.accounts.models import User
from tenants.accounts.sites import PlaneSite
from tenants.audit.admin import AuditEventAdmin
from tenants.audit.models import AuditEvent
from tenants.load import read_load
from tenants.models import DatabaseServer, LifecycleEvent, Tenant
from tenants.planes import Plane
from tenants.support_console import SupportPages


class OperatorSite(PlaneSite):
    plane = Plane.CONTROL
    site_header = "Bulkhead operator console"
    site_title = "Bulkhead operators"
    index_title = "Tenants and servers"
    index_template = "tenants/operator_index.html"

    def plane_name(self, request):
        return "Operator console"

    def get_urls(self):
        return [path("load/", self.admin_view(self.load), name="load"), *super().get_urls()]

    @method_decorator(require_safe)
    def load(self, request):
        """What ``/metrics`` says, to read."""
        if not request.user.has_perm("tenants.view_tenantload"):
            raise PermissionDenied
        load = read_load()
        worst = [("waits", "Longest waits", load.longest_waits), ("depths", "Longest queues", load.deepest)]
        context = self.each_context(request) | {"title": "Queues and breakers", "load": load, "worst": worst}
        return TemplateResponse(request, "tenants/load.html", context)


class LifecycleEventInline(admin.TabularInline):
    model = LifecycleEvent
    fields = readonly_fields = ("at", "action", "step", "detail")
    extra = 0


class TenantAdmin(SupportPages):
    change_form_template = "tenants/tenant_change_form.html"
    list_display = ["slug", "name", "state", "server", "generation", "created_at"]
    list_filter = ["state", "server"]
    search_fields = ["slug", "name"]
    fields = ["id", "slug", "name", "state", "server", "generation", "limits", "created_at"]
    inlines = [LifecycleEventInline]


class DatabaseServerAdmin(admin.ModelAdmin):
    list_display = ["name", "engine", "host", "port", "accepts_tenants", "capacity"]
    exclude = ["sealed_admin_password"]


class OperatorAdmin(AccountAdmin):
    """Without the role, which is no matter here: whoever has an account in control is an operator."""

    list_display = ["username", "email", "is_active", "last_login", "factors"]
    list_filter = ["is_active"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Account", {"fields": ["email", "is_active", "last_login"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "usable_password", "password1", "password2"]})]


operator_site = OperatorSite(name="operator")
operator_site.register(Tenant, TenantAdmin)
operator_site.register(DatabaseServer, DatabaseServerAdmin)
operator_site.register(User, OperatorAdmin)
operator_site.register(AuditEvent, AuditEventAdmin)
