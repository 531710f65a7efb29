"""How each action is asked for, through the API and through the workspace: each would succeed if it were allowed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from django.utils import timezone

from tests.routes.asking import NEW_PASSWORD

API = {  # list and detail, seen from /api/v1/
    "accounts.user": ("users/", "users/{user}/"),
    "scans.target": ("targets/", "targets/{target}/"),
    "scans.authorization": ("targets/{target}/authorizations/", ""),
    "scans.scanprofile": ("profiles/", "profiles/{scanprofile}/"),
    "scans.scan": ("scans/", "scans/{scan}/"),
    "scans.finding": ("findings/", "findings/{finding}/"),
    "audit.auditevent": ("audit-events/", ""),
}
WORKSPACE = {name: name.replace(".", "/") + "/" for name in ("accounts.supportaccess", *API)}  # seen from /t/acme/
TARGET = {"name": "new", "host": "new.example.com"}
PROFILE = {"name": "new"}
TOMORROW = timezone.now() + timedelta(days=1)
PASSWORDS = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
INVITATION = {"username": "new", "email": "new@example.com", "role": "owner"}
CHANGE = {"name": "changed", "email": "changed@example.com", "version": 1}
PROVIDER = {  # not in use: nobody is asked
    "issuer": "https://id.example.com",
    "client_id": "x",
    "client_secret": "y",
    "allowed_domains": "example.com",
    "role": "reader",
}
VERBS = ("pause", "resume", "cancel", "retry")  # in an order in which each may

BODIES = {
    "accounts.user": INVITATION,
    "scans.target": TARGET | {"ports": [80]},
    "scans.authorization": {"statement": "signed", "expires_at": TOMORROW.isoformat()},
    "scans.scanprofile": PROFILE | {"engines": {"ports": {}}},
    "scans.scan": {"target": "{target}", "profile": "{scanprofile}"},
}
NO_INLINES = {"authorizations-TOTAL_FORMS": "0", "authorizations-INITIAL_FORMS": "0"}
TARGET_AS_IT_IS = {"name": "shop", "host": "shop.example.com", "ports": "[80, 443]", "is_active": "on"}
AS_IT_IS = {"version": "1"}
AN_INLINE = {
    "authorizations-TOTAL_FORMS": "1",
    "authorizations-INITIAL_FORMS": "0",
    "authorizations-0-statement": "Signed.",
    "authorizations-0-intrusiveness": "passive",
    "authorizations-0-expires_at_0": f"{TOMORROW:%Y-%m-%d}",
    "authorizations-0-expires_at_1": "12:00",
}
FORMS = {
    "accounts.user": {"username": "new", "role": "owner", "is_active": "on"} | PASSWORDS,
    "accounts.supportaccess": {"scope": "full"},
    "scans.target": TARGET | {"ports": "[80]", "is_active": "on"} | NO_INLINES,
    "scans.authorization": {"target": "{target}"} | {key.rpartition("-")[2]: value for key, value in AN_INLINE.items()},
    "scans.scanprofile": PROFILE | {"engines": '{"ports": {}}'},
    "scans.scan": {"target": "{target}", "profile": "{scanprofile}", "number": "99"},
    "scans.finding": {"target": "{target}", "title": "new", "state": "fixed"},
    "audit.auditevent": {"number": "999", "action": "forged"},
}


class Way(NamedTuple):
    resource: str
    action: str
    method: str
    path: str
    body: dict | None = None

    def of(self, ids: dict[str, str]) -> "Way":
        filled = {key: _filled(value, ids) for key, value in (self.body or {}).items()}
        return self._replace(path=self.path.format(**ids), body=filled or None)


def _filled(value, ids: dict[str, str]):
    return ids.get(value[1:-1], value) if isinstance(value, str) else value


def api_ways() -> Iterator[Way]:
    for resource, (rows, row) in API.items():
        yield Way(resource, "view", "GET", rows)
        yield Way(resource, "add", "POST", rows, BODIES.get(resource, {}))
        for path in filter(None, (rows, row)):
            yield Way(resource, "delete", "DELETE", path)
        if row:
            yield Way(resource, "view", "GET", row)
            yield Way(resource, "view", "HEAD", row)
            yield Way(resource, "change", "PATCH", row, CHANGE)
    yield from (Way("accounts.apikey", "view", "GET", path) for path in ("api-keys/", "api-keys/{apikey}/"))
    yield Way("accounts.apikey", "add", "POST", "api-keys/", {"name": "new", "expires_at": TOMORROW.isoformat()})
    yield Way("accounts.apikey", "delete", "DELETE", "api-keys/{apikey}/")
    yield Way("accounts.supportaccess", "view", "GET", "support-access/")
    for step, of in {"grant": "asked", "end": "asked", "refuse": "also_asked"}.items():
        yield Way("accounts.supportaccess", "grant", "POST", f"support-access/{{{of}}}/{step}/", {"hours": 1})
    yield Way("scans.scan", "view", "GET", "scans/{scan}/report.html")
    yield Way("scans.scan", "view", "GET", "scans/{scan}/events/")
    yield from (Way("scans.scan", "steer", "POST", f"scans/{{scan}}/{verb}/") for verb in VERBS)
    yield Way("audit.auditevent", "view", "GET", "audit-events/export.jsonl")
    yield Way("scans.authorization", "revoke", "POST", "targets/{target}/authorizations/{authorization}/revoke/")


def workspace_ways() -> Iterator[Way]:
    # While testing is allowed.
    for verb in VERBS:
        yield Way("scans.scan", "steer", "POST", "scans/scan/", {"_selected_action": "{scan}", "action": verb})
    # Before others, while the target is at the version that its page names.
    yield Way(
        "scans.authorization", "add", "POST", "scans/target/{target}/change/", TARGET_AS_IT_IS | AS_IT_IS | AN_INLINE
    )
    for resource, rows in WORKSPACE.items():
        row = f"{rows}{{{resource.partition('.')[2]}}}/"
        form = FORMS[resource]
        for path in (rows, f"{rows}?q=x", f"{row}change/", f"{row}history/"):
            yield Way(resource, "view", "GET", path)
        yield Way(resource, "add", "GET", f"{rows}add/")
        yield Way(resource, "add", "POST", f"{rows}add/", form)
        yield Way(
            resource, "change", "POST", f"{row}change/", form | AS_IT_IS | {"username": "changed", "name": "changed"}
        )
        yield Way(resource, "delete", "GET", f"{row}delete/")
        yield Way(resource, "delete", "POST", f"{row}delete/", {"post": "yes"})
        selected = {"_selected_action": row.rpartition("/")[0].rpartition("/")[2]}
        yield Way(resource, "delete", "POST", rows, selected | {"action": "delete_selected", "post": "yes"})
        yield Way(resource, "revoke", "POST", rows, selected | {"action": "revoke"})
    yield Way("scans.scan", "view", "GET", "scans/scan/{scan}/report.html")
    yield Way("accounts.identityprovider", "change", "GET", "oidc/")
    yield Way("accounts.identityprovider", "change", "POST", "oidc/", PROVIDER)
    yield Way("accounts.signinpolicy", "change", "POST", "second-factor/", {"step": "policy"})
    for step, of in {"grant": "asked", "end": "asked", "refuse": "also_asked"}.items():
        decision = {"decision": step, "scope": "read", "hours": "1"}
        yield Way("accounts.supportaccess", "grant", "POST", f"accounts/supportaccess/{{{of}}}/decide/", decision)
    yield Way("accounts.user", "add", "GET", "accounts/user/invite/")
    yield Way("accounts.user", "add", "POST", "accounts/user/invite/", INVITATION | {"username": "another"})
    yield Way("accounts.user", "change", "GET", "accounts/user/{user}/password/")
    yield Way("accounts.user", "change", "POST", "accounts/user/{user}/password/", PASSWORDS)
