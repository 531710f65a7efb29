"""The operator console: what the control database holds, to look at. Life-cycle changes are commands."""

from django.contrib import admin

from tenants.accounts.admin import AccountAdmin, PlaneSite
from tenants.accounts.models import User
from tenants.models import DatabaseServer, LifecycleEvent, Tenant
from tenants.planes import Plane


class OperatorSite(PlaneSite):
    plane = Plane.CONTROL
    site_header = "Bulkhead operator console"
    site_title = "Bulkhead operators"
    index_title = "Tenants and servers"

    def plane_name(self, request):
        return "Operator console"


class ReadOnlyAdmin(admin.ModelAdmin):
    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class LifecycleEventInline(admin.TabularInline):
    model = LifecycleEvent
    fields = ["at", "action", "step", "detail"]
    readonly_fields = ("at", "action", "step", "detail")
    extra = 0
    can_delete = False

    def has_add_permission(self, request, obj=None):
        return False


class TenantAdmin(ReadOnlyAdmin):
    list_display = ["slug", "name", "state", "server", "generation", "created_at"]
    list_filter = ["state", "server"]
    search_fields = ["slug", "name"]
    fields = ["id", "slug", "name", "state", "server", "generation", "limits", "created_at"]
    inlines = [LifecycleEventInline]


class DatabaseServerAdmin(ReadOnlyAdmin):
    list_display = ["name", "engine", "host", "port", "accepts_tenants", "capacity"]
    exclude = ["sealed_admin_password"]


operator_site = OperatorSite(name="operator")
operator_site.register(Tenant, TenantAdmin)
operator_site.register(DatabaseServer, DatabaseServerAdmin)
operator_site.register(User, AccountAdmin)
