"""Who has an account, on both sites."""

from functools import partial

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Exists, OuterRef
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from tenants.accounts import second_factor
from tenants.accounts.links import invite, send_invitation, withdraw_invitation
from tenants.accounts.models import Passkey, SecondFactor, SupportAccess, User, is_last_owner
from tenants.accounts.sites import workspace_site
from tenants.accounts.support_admin import SupportAccessAdmin
from tenants.edits import VersionedAdmin, VersionedForm
from tenants.exceptions import NotInvitedError, TooManyMailsError


class AccountForm(VersionedForm, UserChangeForm):
    pass


class AccountAdmin(VersionedAdmin, UserAdmin):
    form = AccountForm
    list_display = ["username", "email", "role", "is_active", "last_login", "factors"]
    list_filter = ["role", "is_active"]
    search_fields = ["username", "email"]
    filter_horizontal = ()
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Account", {"fields": ["email", "role", "is_active", "last_login"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "role", "usable_password", "password1", "password2"]})]
    readonly_fields = ["last_login"]
    actions = ["remove_second_factor"]

    @admin.action(permissions=["change"], description="Remove the second factor of the selected accounts")
    def remove_second_factor(self, request, queryset):
        """Of others, who have lost it, passkeys among it: one's own goes with password and code."""
        for account in queryset.exclude(pk=request.user.pk):
            if second_factor.remove_all(account):
                self.log_change(request, account, "The second factor was removed.")
                messages.info(request, f"{account} has no second factor any more.")

    def user_change_password(self, request, id, form_url=""):
        """Not one's own: that has a page which asks for the old one, and cannot leave its member without any."""
        user = self.get_object(request, unquote(id))
        is_own = user is not None and user.pk == request.user.pk and user.has_usable_password()
        if is_own and self.has_change_permission(request, user):
            return HttpResponseRedirect(reverse("admin:password_change", current_app=self.admin_site.name))
        return super().user_change_password(request, id, form_url)

    def get_queryset(self, request):
        """Without operators who support or have supported: theirs are no accounts to be given rights."""
        app = SecondFactor.objects.filter(user=OuterRef("pk")).exclude(confirmed_at=None)
        passkey = Passkey.objects.standing().filter(user=OuterRef("pk"))
        accounts = super().get_queryset(request).filter(operator=None)
        return accounts.annotate(has_app=Exists(app), has_passkey=Exists(passkey))

    @admin.display(description="Second factor")
    def factors(self, account):
        return ", ".join(["app"] * account.has_app + ["passkey"] * account.has_passkey)

    def get_fieldsets(self, request, obj=None):
        """Who may only look sees no password, not even that there is one."""
        fieldsets = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj):
            return fieldsets
        return [(None, {"fields": ["username"]}), *fieldsets[1:]]


class InvitationForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["username", "email", "role"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True


class MemberForm(AccountForm):
    def clean(self):
        is_last = is_last_owner(self.instance)  # first: whoever changes another owner waits here, and holds no row yet
        cleaned = super().clean()
        if is_last and not (cleaned.get("role") == User.Role.OWNER and cleaned.get("is_active")):
            raise ValidationError("Somebody has to be an active owner, and nobody else is.")
        return cleaned


class MemberAdmin(AccountAdmin):
    """Of a workspace: members can be invited too."""

    form = MemberForm
    list_display = [*AccountAdmin.list_display, "is_invited"]
    change_list_template = "tenants/members.html"
    actions = [*AccountAdmin.actions, "send_invitation", "withdraw_invitation"]

    def get_readonly_fields(self, request, obj=None):
        return [*self.readonly_fields, *(["is_active"] if obj is not None and obj.is_invited else [])]

    def get_urls(self):
        page = self.admin_site.admin_view(self.invite_view)
        return [path("invite/", page, name="accounts_user_invite"), *super().get_urls()]

    def invite_view(self, request):
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = InvitationForm(request.POST or None)
        if form.is_valid():
            try:
                user = invite(**form.cleaned_data, invited_by=request.user)
            except TooManyMailsError:
                form.add_error(None, "So many members were invited today that this one has to wait until tomorrow.")
            else:
                self.log_addition(request, user, "Invited.")
                self.message_user(request, f"{user.username} is invited: a mail is on its way.", messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:accounts_user_changelist"))
        context = self.admin_site.each_context(request) | {"title": "Invite a member", "form": form, "opts": User._meta}
        return TemplateResponse(request, "tenants/invite.html", context)

    @admin.action(permissions=["change"], description="Send the invitation again")
    def send_invitation(self, request, queryset):
        self._with_invitations(request, queryset, partial(send_invitation, invited_by=request.user), "Invited again")

    @admin.action(permissions=["change"], description="Withdraw the invitation")
    def withdraw_invitation(self, request, queryset):
        self._with_invitations(request, queryset, withdraw_invitation, "Invitation withdrawn")

    def _with_invitations(self, request, queryset, act, what):
        for user in queryset:
            try:
                act(user)
            except NotInvitedError:
                self.message_user(request, f"Not invited: {user.username}.", messages.WARNING)
            else:
                self.log_change(request, user, f"{what}.")
                self.message_user(request, f"{what}: {user.username}.", messages.SUCCESS)


workspace_site.register(User, MemberAdmin)
workspace_site.register(SupportAccess, SupportAccessAdmin)
