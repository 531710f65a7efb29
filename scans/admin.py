"""The workspace's pages. Who may do what follows from the roles (config/roles.py)."""

import json
from collections.abc import Callable

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Q
from django.http import Http404
from django.urls import path, reverse
from django.utils.html import format_html

from scans.exceptions import ScanRefused
from scans.models import Authorization, Finding, Occurrence, Scan, ScanEvent, ScanProfile, ScanRun, Target
from scans.report import report_response
from scans.services import cancel_scan, pause_scan, reconsider_blocked_scans, resume_scan, retry_scan
from scans.targets import clean_ca_pem, clean_expiry, clean_host, is_scope_fixed, revoke
from tenants.accounts.sites import workspace_site
from tenants.edits import VersionedAdmin, VersionedForm


class Decoder(json.JSONDecoder):
    """Numbers of thousands of digits, and brackets nested by the thousand, are no JSON either."""

    def decode(self, text, **options):
        try:
            return super().decode(text, **options)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError):
            raise json.JSONDecodeError("Too large", "", 0) from None


class JSONField(forms.JSONField):
    def __init__(self, **options):
        super().__init__(**options | {"decoder": Decoder})


class TargetForm(VersionedForm):
    class Meta:
        model = Target
        fields = ["name", "host", "ports", "ca_pem", "is_active"]
        field_classes = {"ports": JSONField}

    def clean(self):
        """The row is locked by now: since the form was made for this request somebody may have authorised it."""
        cleaned = super().clean()
        moves = not self.instance._state.adding and {"host", "ports"} & set(self.changed_data)
        if moves and is_scope_fixed(self.instance):
            raise forms.ValidationError("Host and ports are authorised as they are.")
        return cleaned

    def clean_host(self):
        return clean_host(self.cleaned_data["host"])

    def clean_ca_pem(self):
        return clean_ca_pem(self.cleaned_data["ca_pem"])


class ProfileForm(forms.ModelForm):
    class Meta:
        model = ScanProfile
        fields = ["name", "engines"]
        field_classes = {"engines": JSONField}


class AuthorizationForm(forms.ModelForm):
    def clean_expires_at(self):
        return clean_expiry(self.cleaned_data["expires_at"])


class AddedElsewhere(admin.ModelAdmin):
    def has_add_permission(self, request):
        return False


class AuthorizationInline(admin.TabularInline):
    model = Authorization
    form = AuthorizationForm
    extra = 0
    fields = ["statement", "intrusiveness", "expires_at", "revoked_at", "created_by"]
    readonly_fields = ["revoked_at", "created_by"]

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("target", "created_by")


@admin.register(Target, site=workspace_site)
class TargetAdmin(VersionedAdmin):
    form = TargetForm
    inlines = [AuthorizationInline]
    list_display = ["name", "host", "ports", "is_active", "authorized_until", "created_by", "created_at"]
    list_filter = ["is_active"]
    list_select_related = ["created_by"]
    ordering = ["-id"]  # the model's own is not in force where rows are grouped
    search_fields = ["name", "host"]
    readonly_fields = ["created_by", "created_at"]

    def get_queryset(self, request):
        unrevoked = Q(authorizations__revoked_at=None)
        return super().get_queryset(request).annotate(until=Max("authorizations__expires_at", filter=unrevoked))

    @admin.display(ordering="until")
    def authorized_until(self, target):
        return target.until

    def get_readonly_fields(self, request, obj=None):
        fixed = ["host", "ports"] if obj is not None and is_scope_fixed(obj) else []
        return [*self.readonly_fields, *fixed]

    def save_model(self, request, obj, form, change):
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    def save_formset(self, request, form, formset, change):
        for authorization in formset.save(commit=False):
            authorization.created_by = request.user
            authorization.save()
        formset.save_m2m()

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        reconsider_blocked_scans(target=form.instance)


@admin.register(Authorization, site=workspace_site)
class AuthorizationAdmin(AddedElsewhere):
    """Added on its target's page."""

    list_display = ["target", "method", "intrusiveness", "expires_at", "revoked_at", "created_by", "created_at"]
    list_filter = ["intrusiveness", "target"]
    list_select_related = ["target", "created_by"]
    actions = ["revoke"]

    def has_revoke_permission(self, request):
        return request.user.has_perm("scans.revoke_authorization")

    @admin.action(permissions=["revoke"], description="Revoke the selected authorizations")
    def revoke(self, request, queryset):
        for authorization in queryset:
            revoke(authorization)
            self.log_change(request, authorization, "Revoked.")


@admin.register(ScanProfile, site=workspace_site)
class ProfileAdmin(admin.ModelAdmin):
    form = ProfileForm
    list_display = ["name", "engines", "intrusiveness"]


class RunInline(admin.StackedInline):
    model = ScanRun
    extra = 0
    readonly_fields = (
        "engine",
        "version",
        "outcome",
        "is_healthy",
        "started_at",
        "ended_at",
        "not_covered",
        "coverage",
        "error",
    )
    fields = readonly_fields


class EventInline(admin.TabularInline):
    model = ScanEvent
    extra = 0
    readonly_fields = fields = ("sequence", "state", "reason", "by", "fence", "at")


def _action(verb: str, steer: Callable[..., object]):
    """For the selected scans: those that it does not fit are named, and the others go on."""

    @admin.action(permissions=["steer"], description=f"{verb.capitalize()} the selected scans")
    def action(model_admin, request, queryset):
        for scan in queryset.select_related("target", "profile"):
            try:
                steer(scan=scan, user=request.user)
            except ScanRefused as refusal:
                model_admin.message_user(request, f"Scan {scan.number}: {refusal.detail}", messages.WARNING)

    action.__name__ = verb
    return action


@admin.register(Scan, site=workspace_site)
class ScanAdmin(AddedElsewhere):
    """Asked for through the API."""

    inlines = [RunInline, EventInline]
    actions = [
        _action("pause", pause_scan),
        _action("resume", resume_scan),
        _action("cancel", cancel_scan),
        _action("retry", retry_scan),
    ]
    list_display = ["number", "target", "profile", "state", "reason", "progress", "created_by", "created_at", "report"]
    list_filter = ["state", "target"]
    list_select_related = ["target", "profile", "created_by"]
    search_fields = ["target__name", "target__host"]
    fields = ["number", "target", "profile", "state", "reason", "progress", "message", "created_by"]
    fields += ["created_at", "started_at", "ended_at", "report"]
    readonly_fields = ["report"]

    def has_steer_permission(self, request):
        return request.user.has_perm("scans.steer_scan")

    def get_urls(self):
        page = self.admin_site.admin_view(self.report_view)
        return [path("<uuid:pk>/report.html", page, name="scans_scan_report"), *super().get_urls()]

    @admin.display
    def report(self, scan):
        return format_html('<a href="{}">report</a>', reverse("admin:scans_scan_report", args=[scan.pk]))

    def report_view(self, request, pk):
        if not self.has_view_permission(request):
            raise PermissionDenied
        scan = self.get_object(request, pk)
        if scan is None:
            raise Http404
        return report_response(scan)


class OccurrenceInline(admin.TabularInline):
    model = Occurrence
    extra = 0
    readonly_fields = ("scan", "engine", "evidence", "seen_at")
    fields = readonly_fields

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("run__scan")

    def scan(self, occurrence):
        return occurrence.run.scan.number

    def engine(self, occurrence):
        return occurrence.run.engine


@admin.register(Finding, site=workspace_site)
class FindingAdmin(admin.ModelAdmin):
    inlines = [OccurrenceInline]
    list_display = ["title", "severity", "state", "target", "port", "path", "last_seen_at"]
    list_filter = ["severity", "state", "target"]
    list_select_related = ["target"]
    search_fields = ["title", "rule_key", "host", "path"]
