"""The workspace's pages of support access, where an owner decides."""

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import path, reverse

from tenants.accounts.models import SupportAccess
from tenants.accounts.support import HOURS, end, grant, refuse
from tenants.exceptions import SupportAccessError

DONE = {"grant": "Access is granted.", "refuse": "The request is refused.", "end": "The access has ended."}


class DecisionForm(forms.Form):
    decision = forms.ChoiceField(choices=DONE.items())
    scope = forms.ChoiceField(choices=SupportAccess.Scope.choices, required=False)
    hours = forms.IntegerField(min_value=1, max_value=HOURS, required=False)

    def clean(self):
        found = super().clean()
        if found.get("decision") == "grant" and not (found.get("scope") and found.get("hours")):
            raise forms.ValidationError("Say what is granted, and for how long.")
        return found

    def decide(self, access: SupportAccess, owner) -> None:
        """Raises ``SupportAccessError``."""
        match self.cleaned_data["decision"]:
            case "grant":
                grant(access, owner=owner, scope=self.cleaned_data["scope"], hours=self.cleaned_data["hours"])
            case "refuse":
                refuse(access, owner=owner)
            case "end":
                end(access, owner=owner)


class SupportAccessAdmin(admin.ModelAdmin):
    """To look at; and for an owner a form, which is no change of the row's fields but a step of its own."""

    change_form_template = "tenants/support_access.html"
    list_display = ["operator", "state", "reason", "asked_at", "scope", "granted_by", "expires_at"]
    list_select_related = ["user", "granted_by"]
    fields = ["operator", "state", "reason", "scope_asked", "hours_asked", "asked_at", "scope"]
    fields += ["granted_by", "granted_at", "expires_at", "ended_by", "ended_at"]
    readonly_fields = ["operator", "state"]

    @admin.display(ordering="user__username")
    def operator(self, access):
        return access.user.username

    @admin.display
    def state(self, access):
        return access.state

    def get_urls(self):
        page = self.admin_site.admin_view(self.decide)
        return [path("<uuid:object_id>/decide/", page, name="support_decide"), *super().get_urls()]

    def change_view(self, request, object_id, form_url="", extra_context=None):
        access = self.get_object(request, object_id)
        if access is not None and request.user.has_perm("accounts.grant_supportaccess"):
            offered = [each for each in SupportAccess.Scope if each == "read" or access.scope_asked == "full"]
            extra_context = {"state": access.state, "scopes": offered, "hours": range(1, HOURS + 1)}
        return super().change_view(request, object_id, form_url, extra_context)

    def decide(self, request, object_id):
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("accounts.grant_supportaccess"):
            raise PermissionDenied
        access = self.get_object(request, str(object_id))
        if access is None:
            raise Http404
        form = DecisionForm(request.POST)
        try:
            if not form.is_valid():
                raise SupportAccessError("Say what is granted, and for how long.")
            form.decide(access, request.user)
        except SupportAccessError as error:
            messages.error(request, str(error))
        else:
            done = DONE[form.cleaned_data["decision"]]
            self.log_change(request, access, done)
            messages.success(request, done)
        return redirect(reverse("admin:accounts_supportaccess_change", args=[object_id]))
