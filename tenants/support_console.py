"""The operator console's side of support access, on a tenant's page. What is asked lives in the tenant's database."""

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator

from tenants.accounts.models import SupportAccess
from tenants.accounts.support import ENTRY_LIFETIME, HOURS, ask, make_entry, open_accesses, withdraw
from tenants.audit.trail import record
from tenants.context import tenant_context
from tenants.exceptions import (
    SupportAccessError,
    TenantNotFoundError,
    TenantSuspendedError,
    TenantUnavailableError,
)
from tenants.models import Tenant

SHOWN = 20
# Of the page whose form leads to another host: what the sites' pages have, which may send theirs to their own alone.
ENTRY_POLICY = (
    "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; script-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; style-src 'self'"
)
NOT_SERVED = (TenantNotFoundError, TenantSuspendedError, TenantUnavailableError)


class RequestForm(forms.Form):
    reason = forms.CharField(max_length=500, help_text="What for. An owner of the tenant reads it and decides.")
    scope = forms.ChoiceField(choices=SupportAccess.Scope.choices, initial=SupportAccess.Scope.READ)
    hours = forms.IntegerField(min_value=1, max_value=HOURS, initial=1)


class SupportPages(admin.ModelAdmin):
    """
    For ``TenantAdmin``. A view here binds the tenant inside control, so it has no transaction around it; each step in
    the tenant is one of its own. An operator sees and uses their own accesses alone.
    """

    def get_urls(self):
        view = self.admin_site.admin_view
        return [
            path("<uuid:object_id>/support/", view(self.support), name="tenants_tenant_support"),
            path("<uuid:object_id>/support/enter/", view(self.support_enter), name="tenants_tenant_support_enter"),
            path("<uuid:object_id>/support/end/", view(self.support_end), name="tenants_tenant_support_end"),
            *super().get_urls(),
        ]

    @method_decorator(transaction.non_atomic_requests)
    def support(self, request, object_id):
        tenant = self._tenant(request, object_id)
        form = RequestForm(request.POST if request.method == "POST" else None)
        try:
            if request.method == "POST" and form.is_valid():
                with tenant_context(tenant):
                    ask(request.user, **form.cleaned_data)
                record("support_asked", tenant, **form.cleaned_data)
                messages.success(request, f"An owner of {tenant.slug} is asked.")
                return self._back(tenant)
        except (SupportAccessError, *NOT_SERVED) as error:
            form.add_error(None, str(error))
        context = self.admin_site.each_context(request) | {
            "title": f"Support access to {tenant.slug}",
            "tenant": tenant,
            "form": form,
            "accesses": _accesses(tenant, request.user.pk),
        }
        return TemplateResponse(request, "tenants/support_console.html", context)

    @method_decorator(transaction.non_atomic_requests)
    def support_enter(self, request, object_id):
        """A page with one button: what it sends opens the workspace, on whatever host that is."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        tenant, entry = self._tenant(request, object_id), None
        try:
            with tenant_context(tenant):
                entry = make_entry(request.user.pk)
        except NOT_SERVED as error:
            messages.error(request, str(error))
            return self._back(tenant)
        if entry is None:
            messages.error(request, f"No access of yours to {tenant.slug} is granted now.")
            return self._back(tenant)
        record("support_entry_made", tenant)
        origin = members_origin()
        context = self.admin_site.each_context(request) | {
            "title": f"Enter {tenant.slug}",
            "tenant": tenant,
            "entry": entry,
            "action": f"{origin}/t/{tenant.slug}/support/enter/",
            "seconds": int(ENTRY_LIFETIME.total_seconds()),
        }
        response = TemplateResponse(request, "tenants/support_enter.html", context)
        if origin:
            response["Content-Security-Policy"] = f"{ENTRY_POLICY}; form-action {origin}"
        return response

    @method_decorator(transaction.non_atomic_requests)
    def support_end(self, request, object_id):
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        tenant = self._tenant(request, object_id)
        try:
            with tenant_context(tenant):
                withdraw(request.user.pk)
        except (SupportAccessError, *NOT_SERVED) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, "It has ended.")
        return self._back(tenant)

    def _tenant(self, request, object_id) -> Tenant:
        if not request.user.has_perm("accounts.add_supportaccess"):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=object_id)

    def _back(self, tenant: Tenant):
        return redirect(reverse("admin:tenants_tenant_support", args=[tenant.pk], current_app=self.admin_site.name))


def members_origin() -> str:
    """Where members are served: here, unless operators have a host of their own."""
    return settings.BULKHEAD_PUBLIC_URL if settings.BULKHEAD_OPERATOR_HOST else ""


def _accesses(tenant: Tenant, operator_id) -> list[dict]:
    """Plain values, which may be shown where the tenant is not bound any more."""
    try:
        with tenant_context(tenant):
            open_accesses()
            mine = SupportAccess.objects.filter(user__operator=operator_id).select_related("granted_by")[:SHOWN]
            return [
                {
                    "state": str(access.state),
                    "reason": access.reason,
                    "scope": access.scope or access.scope_asked,
                    "asked_at": access.asked_at,
                    "granted_by": access.granted_by.username if access.granted_by else "",
                    "expires_at": access.expires_at,
                }
                for access in mine
            ]
    except NOT_SERVED:
        return []
