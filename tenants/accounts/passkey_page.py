"""A person's own passkeys on either site: begun with the password, made by the browser, removed."""

import logging
from functools import partial
from typing import Any

from django import forms
from django.core.exceptions import BadRequest, ValidationError
from django.template.response import TemplateResponse

from tenants.accounts import passkey_registration, passkeys, second_factor
from tenants.accounts.models import Passkey
from tenants.accounts.passkeys import PasskeyRefused
from tenants.accounts.second_factor import GivenCode
from tenants.accounts.second_factor_page import WRONG, Step, code_field, password_field, require_strongest
from tenants.accounts.tries import count_old_password, count_own_code

logger = logging.getLogger(__name__)

REFUSED = "This passkey was not registered. Try again, from the beginning."


class Begin(Step):
    """A passkey does without the code: so whoever has an app says one here."""

    name = forms.CharField(label="Name of the passkey", max_length=80, help_text="Where it is kept, for instance.")
    password = password_field()
    code = code_field()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not second_factor.is_enrolled(self.user):
            del self.fields["code"]

    def clean(self):
        if Passkey.objects.standing().filter(user=self.user).count() >= passkey_registration.PER_MEMBER:
            raise ValidationError(
                f"You have {passkey_registration.PER_MEMBER} passkeys, which is as many as there can be."
            )
        require_strongest(self.request)
        given, takes_code = self.cleaned_data, "code" in self.fields
        tried = count_own_code(self.request, and_password=True) if takes_code else count_old_password(self.request)
        code = GivenCode(self.user.get_username(), given.get("code", "")) if takes_code else None
        if not self.user.check_password(given.get("password")) or (code and not code.opens()):
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self):
        return {"options": passkey_registration.begin(self.request, self.cleaned_data["name"], self.plane_name)}


class Register(Step):
    answer = forms.Field(widget=forms.HiddenInput)

    def clean_answer(self):
        try:
            self.made = passkey_registration.register(self.request, str(self.cleaned_data["answer"]))
        except PasskeyRefused as refused:
            logger.warning("A passkey was not registered: %s", refused)
            raise ValidationError(REFUSED) from refused

    def take(self):
        return {"made": self.made}


class OwnPasskey(forms.ModelChoiceField):
    def label_from_instance(self, obj):
        """Two may have one name."""
        return f"{obj.name}, {obj.created_at:%Y-%m-%d %H:%M}"


class Remove(Step):
    passkey: Any = OwnPasskey(None, empty_label=None)
    password = password_field()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["passkey"].queryset = Passkey.objects.standing().filter(user=self.user)

    def clean_password(self):
        tried = count_old_password(self.request)
        if not self.user.check_password(self.cleaned_data["password"]):
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self):
        passkey_registration.remove(self.request, self.cleaned_data["passkey"])
        return {}


STEPS = {"begin": Begin, "register": Register, "remove": Remove}


def passkey_page(request, context: dict[str, Any]) -> TemplateResponse:
    """``context`` is the site's. Where it counts a try it commits: no transaction may be around it."""
    asked = request.POST.get("step") if request.method == "POST" else None
    if asked is not None and asked not in STEPS:
        raise BadRequest("There is no such step.")
    make = {name: partial(step, request, context, auto_id=f"{name}_%s") for name, step in STEPS.items()}
    shown: dict[str, Any] = {}
    if asked is not None:
        form = make[asked](request.POST)
        shown = form.take() if form.is_valid() else {asked: form}
    state = {
        "title": "Passkeys",
        "passkeys": Passkey.objects.standing().filter(user=request.user),
        "must_enrol": passkeys.BY_PASSKEY not in request.session and second_factor.must_enrol(request.user),
        "origin": passkeys.site()[1],
    }
    return TemplateResponse(
        request, "tenants/passkeys.html", context | {name: make[name]() for name in STEPS} | state | shown
    )
