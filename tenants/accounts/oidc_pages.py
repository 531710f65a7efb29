"""The workspace's pages of the identity provider: to it, back from it, and what an owner says of it."""

import logging
import re
from typing import Any

from django import forms
from django.contrib.auth import SESSION_KEY, login
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from tenants.accounts import oidc
from tenants.accounts.models import IdentityProvider, User
from tenants.accounts.oidc import OidcRefused
from tenants.accounts.oidc_members import member_for
from tenants.accounts.outside import OutsideError
from tenants.accounts.sessions import begin_anew
from tenants.accounts.tries import answer_in_step, count_nameless
from tenants.audit.trail import record
from tenants.edits import VersionedForm
from tenants.exceptions import SecretError
from tenants.planes import current

logger = logging.getLogger(__name__)

BY_PROVIDER = "by_provider"  # in the session: a second factor is the provider's matter then
CLIENT = {"issuer", "client_id"}
PROVIDER_FIELDS = IdentityProvider._meta.concrete_fields
DOMAIN = re.compile(r"([a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}")


def to_provider(request, context: dict[str, Any]) -> TemplateResponse:
    """
    Asked by a form of ours alone: no other site sends a browser there. A page that leads on, as no redirect would:
    the policy of our pages, ``form-action 'self'``, counts for where a form's answer redirects to.
    """
    provider = _provider()
    if provider is None:
        return _failed(request, context)
    url = oidc.begin(request.session, provider, _redirect_uri(request))
    return TemplateResponse(request, "tenants/oidc_begin.html", context | {"title": "To your provider", "url": url})


def back(request, context: dict[str, Any]):
    """Counted as a failure until it succeeded. Raises ``TooManyTriesError``; no transaction may be around it."""
    provider = _provider()
    if provider is None:
        return _failed(request, context)
    tried = count_nameless(request)
    try:
        claims = oidc.finish(request.session, provider, dict(request.GET.lists()), _redirect_uri(request))
        user = member_for(provider, claims)
    except (OidcRefused, OutsideError, SecretError) as error:
        logger.warning("A log-in by the identity provider failed: %s", error)
        record("log_in_failed", provider=provider.issuer)
        return _failed(request, context)
    tried.succeeded()
    was_logged_in = SESSION_KEY in request.session
    login(request, user, "tenants.accounts.backends.PlaneBackend")
    if was_logged_in:
        begin_anew(request.session)
    request.session[BY_PROVIDER] = True
    record("logged_in", user, provider=provider.issuer)
    return HttpResponseRedirect(reverse("admin:index"))


def _provider() -> IdentityProvider | None:
    """Of the bound tenant, if it is served and has one that is in use."""
    bound = current()
    if bound is None or bound.record is None or bound.record.snapshot.state != "active":
        return None
    return IdentityProvider.objects.filter(is_active=True).first()


def _redirect_uri(request) -> str:
    return request.build_absolute_uri(reverse("admin:oidc_callback"))


def _failed(request, context: dict[str, Any]) -> TemplateResponse:
    """One page, whatever it was."""
    answer_in_step(request)
    return TemplateResponse(request, "tenants/oidc_failed.html", context | {"title": "Not logged in"}, status=403)


class ProviderForm(VersionedForm):
    """``asked``: the issuer that was asked who it is before, and what it said of itself, or why it could not be."""

    client_secret = forms.CharField(
        required=False,
        strip=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="It is not shown again. Empty: as it is.",
    )

    class Meta:
        model = IdentityProvider
        fields = ["is_active", "issuer", "client_id", "client_secret", "allowed_domains", "makes_members", "role"]

    def clean_allowed_domains(self):
        domains = self.cleaned_data["allowed_domains"].lower().replace(",", " ").split()
        if not domains or not all(DOMAIN.fullmatch(domain) for domain in domains):
            raise ValidationError("Domains of e-mail addresses, such as example.com, with spaces between.")
        return " ".join(domains)

    def clean_role(self):
        if self.cleaned_data["role"] == User.Role.OWNER:
            raise ValidationError("An owner is made by an owner.")
        return self.cleaned_data["role"]

    def __init__(self, *args, asked: tuple[str, dict[str, Any] | OutsideError] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked = asked

    def clean(self):
        """A provider that is in use has answered; and a secret goes to no other than it was given for."""
        given = super().clean()
        if self.errors:
            return given
        if not given["client_secret"] and (self.instance._state.adding or CLIENT & set(self.changed_data)):
            raise ValidationError({"client_secret": "Say the secret for this issuer and client."})
        issuer, said = self.asked or ("", {})
        if given["is_active"] and (issuer != given["issuer"] or isinstance(said, OutsideError)):
            raise ValidationError({"issuer": str(said) or "Save it once more."})
        return given

    def save(self, commit=True):
        """Of a row that was there what was changed; the secret and the endpoints when there are others."""
        provider, columns = self.instance, set(self.changed_data) & {field.name for field in PROVIDER_FIELDS}
        if self.cleaned_data["client_secret"]:
            provider.sealed_client_secret = oidc.seal_secret(self.cleaned_data["client_secret"])
            columns.add("sealed_client_secret")
        if provider.is_active and self.asked:
            provider.endpoints = self.asked[1]
            columns.add("endpoints")
        if provider._state.adding:
            provider.save(force_insert=True)
        else:
            provider.save(update_fields=columns - {"version"})
        return provider


def _ask(posted) -> tuple[str, dict[str, Any] | OutsideError] | None:
    issuer = posted.get("issuer", "").strip()
    if not posted.get("is_active"):
        return None
    try:
        return issuer, oidc.discover(issuer)
    except OutsideError as error:
        return issuer, error


def provider_page(request, context: dict[str, Any]) -> TemplateResponse:
    """Waits for the provider first: no transaction may be around that."""
    if not request.user.has_perm("accounts.change_identityprovider"):
        raise PermissionDenied
    is_posted = request.method == "POST"
    asked = _ask(request.POST) if is_posted else None
    with transaction.atomic():
        form = ProviderForm(request.POST if is_posted else None, instance=IdentityProvider.objects.first(), asked=asked)
        is_saved = is_posted and form.is_valid()
        if is_saved:
            form.save()
    if is_saved:  # with the version that it has now
        form = ProviderForm(instance=form.instance)
    shown = {"title": "Identity provider", "form": form, "is_saved": is_saved, "redirect_uri": _redirect_uri(request)}
    return TemplateResponse(request, "tenants/oidc_provider.html", context | shown)
