"""A person's own ways in that are open, on either site: sessions of its pages, log-ins by the API. Each can end."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from django import forms
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from tenants.accounts.models import Login
from tenants.accounts.second_factor_page import WRONG, password_field
from tenants.accounts.tries import count_old_password
from tenants.audit.trail import lock_head, record

ALL_OTHERS = "others"


class WayIn(NamedTuple):
    name: str  # in the form; of a session not its key, which would open it
    key: Any
    began_at: datetime
    used_at: datetime | None  # of a log-in nobody notes it
    is_this: bool


def open_sessions(request) -> list[WayIn]:
    """Looked for among all of this site that have not expired, which are those of its last hour: no row says whose."""
    user, this, found = request.user, request.session.session_key, []
    hashes = {user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()}
    for row in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        data = row.get_decoded()
        if data.get(SESSION_KEY) == str(user.pk) and data.get(HASH_SESSION_KEY) in hashes:
            name = salted_hmac("tenants.accounts.own_sessions", row.session_key, algorithm="sha256").hexdigest()[:32]
            began_at, used_at = (datetime.fromtimestamp(data.get(each, 0), UTC) for each in ("began_at", "written_at"))
            found.append(WayIn(name, row.session_key, began_at, used_at, row.session_key == this))
    return sorted(found, key=lambda way: way.began_at)


def open_log_ins(user) -> list[WayIn]:
    logins = user.logins.filter(ended_at=None, expires_at__gt=timezone.now()).order_by("created_at")
    return [WayIn(str(login.pk), login.pk, login.created_at, None, False) for login in logins]


class EndForm(forms.Form):
    """Asks for the password of whoever has one."""

    end = forms.CharField(max_length=64, error_messages={"required": "Say which."})
    password = password_field()

    def __init__(self, request, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.request = request
        if not request.user.has_usable_password():
            del self.fields["password"]

    def clean(self):
        if "password" not in self.fields:
            return
        tried = count_old_password(self.request)
        if not self.request.user.check_password(self.cleaned_data.get("password")):
            raise ValidationError(WRONG)
        tried.succeeded()

    def take(self) -> int:
        """How many have ended: of what is this person's, and neither this session nor over already."""
        user, named = self.request.user, self.cleaned_data["end"]
        with transaction.atomic():
            lock_head()  # before the log-ins, as whoever changes an account and ends them with it
            sessions, log_ins = (
                [way.key for way in ways if named in (way.name, ALL_OTHERS) and not way.is_this]
                for ways in (open_sessions(self.request), open_log_ins(user))
            )
            if sessions or log_ins:
                Session.objects.filter(session_key__in=sessions).delete()
                user.logins.filter(pk__in=log_ins).end(Login.Ending.LOGGED_OUT)
                record("sessions_ended", user, sessions=len(sessions), log_ins=len(log_ins))
        return len(sessions) + len(log_ins)


def own_sessions_page(request, context: dict[str, Any]) -> TemplateResponse:
    """``context`` is the site's. It counts a try, which commits: no transaction may be around it."""
    form, ended = EndForm(request, request.POST if request.method == "POST" else None), None
    if form.is_valid():
        ended = form.take()
    shown = {"title": "Open sessions", "form": form, "ended": ended, "all_others": ALL_OTHERS}
    ways = {"sessions": open_sessions(request), "log_ins": open_log_ins(request.user)}
    return TemplateResponse(request, "tenants/own_sessions.html", context | shown | ways)
