"""The operator console: what the control database holds, to look at. Life-cycle changes are commands."""

from django.contrib import admin

from tenants.accounts.admin import AccountAdmin
from tenants.accounts.models import User
from tenants.accounts.sites import PlaneSite
from tenants.audit.admin import AuditEventAdmin
from tenants.audit.models import AuditEvent
from tenants.models import DatabaseServer, LifecycleEvent, Tenant
from tenants.planes import Plane
from tenants.support_console import SupportPages


class OperatorSite(PlaneSite):
    plane = Plane.CONTROL
    site_header = "Bulkhead operator console"
    site_title = "Bulkhead operators"
    index_title = "Tenants and servers"

    def plane_name(self, request):
        return "Operator console"


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
