"""
A workspace's two pages for who has no password, or not the right one: asking for a link, and using it.

They say the same of every name and of every slug, in the same time. Neither page is wrapped in a transaction: what is
counted stays counted, and a password is hashed while nothing is locked.
"""

from django import forms
from django.contrib.auth.forms import SetPasswordMixin, UsernameField
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from tenants.accounts.links import ask_for_reset, choose_password, find_link
from tenants.accounts.sites import workspace_site
from tenants.accounts.tries import answer_in_step
from tenants.exceptions import InvalidLinkError, TooManyTriesError

METHODS = ["GET", "HEAD", "POST"]
INVALID = "This link opens nothing (any more). Ask for a new one."


class AskForm(forms.Form):
    username = UsernameField(label="User name", max_length=64)


class ChooseForm(SetPasswordMixin, forms.Form):
    code = forms.CharField(
        max_length=128,
        help_text="What stands behind the # in the link.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password1, password2 = SetPasswordMixin.create_password_fields()

    def clean(self):
        """The passwords are looked at once the code has proved to be somebody's."""
        cleaned = super().clean()
        if "code" in cleaned:
            try:
                user = find_link(cleaned["code"]).user
            except InvalidLinkError:
                raise ValidationError(INVALID) from None
            self.validate_passwords()
            self.validate_password_for_user(user)
        return cleaned


@transaction.non_atomic_requests
@never_cache
def ask(request):
    if not _is_answered(request):
        return HttpResponseNotAllowed(METHODS)
    form = AskForm(request.POST if request.method == "POST" else None)
    is_asked = form.is_valid()
    if is_asked:
        try:
            ask_for_reset(request, form.cleaned_data["username"])
        except TooManyTriesError as error:
            return workspace_site.too_many_tries(request, error)
        answer_in_step(request)
    return _page(request, "tenants/reset.html", title="Forgotten password", form=form, is_asked=is_asked)


@transaction.non_atomic_requests
@never_cache
@sensitive_post_parameters()
def choose(request):
    if not _is_answered(request):
        return HttpResponseNotAllowed(METHODS)
    form = ChooseForm(request.POST if request.method == "POST" else None)
    is_chosen = form.is_valid()
    if is_chosen:
        try:
            choose_password(form.cleaned_data["code"], form.cleaned_data["password1"])
        except InvalidLinkError:  # since it was looked at
            form.add_error(None, INVALID)
            is_chosen = False
    if form.is_bound and form.non_field_errors():
        answer_in_step(request)
    return _page(request, "tenants/choose_password.html", title="Choose a password", form=form, is_chosen=is_chosen)


def _is_answered(request) -> bool:
    """The user is asked for in any case: the answer says so (Vary), for a tenant that does not exist too."""
    workspace_site.has_permission(request)
    return request.method in METHODS


def _page(request, template: str, **context):
    return TemplateResponse(request, template, workspace_site.each_context(request) | context)
