"""A person's own second factor on either site: enrolled, confirmed, given up. And whether everybody has to have one."""

from functools import partial
from typing import Any

import segno
from django import forms
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.template.response import TemplateResponse
from django.utils.safestring import mark_safe

from tenants.accounts import second_factor
from tenants.accounts.models import RecoveryCode, SecondFactor
from tenants.accounts.passkeys import BY_PASSKEY
from tenants.accounts.second_factor import GivenCode
from tenants.accounts.tries import count_old_password, count_own_code

WRONG = "This is not right."


class Step(forms.Form):
    """What somebody asks of their second factor. ``take`` does it, and says what there is to show for it."""

    def __init__(self, request, context, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.request, self.user, self.plane_name = request, request.user, context["plane_name"]

    def take(self) -> dict[str, Any]:
        raise NotImplementedError


def password_field() -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "current-password"})
    return forms.CharField(label="Your password", strip=False, max_length=256, widget=widget)


def code_field() -> forms.CharField:
    return forms.CharField(label="Code", max_length=32, widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}))


def require_strongest(request) -> None:
    """Before there is another way in. Raises ``ValidationError``."""
    if BY_PASSKEY not in request.session and second_factor.must_use_passkey(request.user):
        raise ValidationError("Log in with your passkey first.")


class Begin(Step):
    password = password_field()

    def clean(self):
        if second_factor.is_enrolled(self.user):
            raise ValidationError("You have a second factor.")
        require_strongest(self.request)
        tried = count_old_password(self.request)
        if not self.user.check_password(self.cleaned_data.get("password")):
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self):
        secret = second_factor.begin(self.user)
        uri = second_factor.provisioning_uri(self.user, secret, self.plane_name)
        image = segno.make(uri, micro=False).svg_inline(scale=4, light="white")
        return {"secret": secret, "uri": uri, "image": mark_safe(image)}  # noqa: S308  made of black squares here


class Confirm(Step):
    code = code_field()

    def clean_code(self):
        tried = count_own_code(self.request)
        self.recovery_codes = second_factor.confirm(self.user, self.cleaned_data["code"])
        if not self.recovery_codes:
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self):
        return {"recovery_codes": self.recovery_codes}


class Remove(Step):
    password = password_field()
    code = code_field()

    def clean(self):
        tried = count_own_code(self.request, and_password=True)
        code = GivenCode(self.user.get_username(), self.cleaned_data.get("code", ""))
        if not (self.user.check_password(self.cleaned_data.get("password")) and code.opens()):
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self):
        second_factor.remove(self.user)
        return {}


class Policy(Step):
    requires_second_factor = forms.BooleanField(label="Everybody has to have a second factor", required=False)

    def take(self):
        if not may_decide(self.user):
            raise PermissionDenied
        second_factor.require_of_everybody(self.cleaned_data["requires_second_factor"])
        return {}


STEPS = {"begin": Begin, "confirm": Confirm, "remove": Remove, "policy": Policy}


def may_decide(user) -> bool:
    return user.has_perm("accounts.change_signinpolicy")


def second_factor_page(request, context: dict[str, Any]) -> TemplateResponse:
    """``context`` is the site's. Where it counts a try it commits: no transaction may be around it."""
    asked = request.POST.get("step") if request.method == "POST" else None
    if asked is not None and asked not in STEPS:
        raise BadRequest("There is no such step.")
    make = {name: partial(step, request, context) for name, step in STEPS.items()}
    shown: dict[str, Any] = {}
    if asked is not None:
        form = make[asked](request.POST)
        shown = form.take() if form.is_valid() else {asked: form}
    user = request.user
    factor = SecondFactor.objects.filter(user=user).first()
    is_required = second_factor.is_required()
    state = {
        "title": "Second factor",
        "is_enrolled": factor is not None and factor.confirmed_at is not None,
        "is_begun": factor is not None and factor.confirmed_at is None,
        "codes_left": RecoveryCode.objects.filter(user=user, used_at=None).count(),
        "is_required": is_required,
        "may_decide": may_decide(user),
    }
    forms_shown = {name: make[name]() for name in STEPS} | {
        "policy": make["policy"](initial={"requires_second_factor": is_required})
    }
    return TemplateResponse(request, "tenants/second_factor.html", context | forms_shown | state | shown)
