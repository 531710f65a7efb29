from django.contrib import admin

from tenants.accounts.sites import workspace_site
from tenants.audit.models import AuditEvent


class AuditEventAdmin(admin.ModelAdmin):
    """To look at: nobody has another right (config/roles.py)."""

    list_display = ["number", "at", "action", "resource", "object_name", "actor", "via", "address"]
    list_filter = ["action", "resource"]
    search_fields = ["object_id", "object_name", "actor", "request_id", "address"]
    show_full_result_count = False


workspace_site.register(AuditEvent, AuditEventAdmin)
