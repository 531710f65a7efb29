"""What is asked of a route, and an answer as the table writes it."""

import json
import re
import zlib
from datetime import timedelta
from urllib.parse import urlsplit

from django.core import signing
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.utils import timezone

from tests.installation import PASSWORD
from tests.routes.walking import API, WORKSPACE, Route
from tests.routes.world import MISSING, MISSING_SERVER, World

# POST last: some of them end the session that asked.
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST"]
# What the segment before a parameter says that the parameter is an id of.
KINDS = {
    "targets": "target",
    "authorizations": "authorization",
    "profiles": "scanprofile",
    "scans": "scan",
    "findings": "finding",
    "api-keys": "apikey",
    "support-access": "supportaccess",
    "supportaccess": "supportaccess",
    "users": "user",
    **{name: name for name in ("user", "target", "authorization", "scanprofile", "scan", "finding")},
    **{name: name for name in ("tenant", "databaseserver", "auditevent")},
}
WORDS = {"app_label": "accounts", "url": "nowhere/", "slug": "acme"}  # parameters that are no ids
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NEW_PASSWORD = "another correct horse"


def kinds(route: Route) -> dict[str, str]:
    """The route's parameters that are ids, and of what."""
    if "content_type_id" in route.parameters:
        return {"object_id": "user"}
    return {name: KINDS[before] for name, before in route.parameters.items() if name not in WORDS}


def path_to(route: Route, world: World, *planes: str, slug: str = "acme") -> tuple[str, tuple[str, ...]]:
    """The route's path with the ids of one plane, or of one plane each; where that is "", ids that nobody has."""
    found = {}
    for position, (name, kind) in enumerate(kinds(route).items()):
        plane = planes[position % len(planes)]
        missing = MISSING_SERVER if kind == "databaseserver" else MISSING
        found[name] = world.ids[plane][kind] if plane else missing
    words = WORDS | {"content_type_id": world.content_type, "slug": slug}
    return route.path(**words | found), tuple(found.values())


def body_of(route: Route, world: World, method: str) -> dict | None:
    make = BODIES.get(route.name) if method in ("POST", "PUT", "PATCH") else None
    return make and make(world)


def ask(client, method: str, path: str, body: dict | None = None):
    """JSON for the API, a form for the pages."""
    if body is None:
        return client.generic(method, path)
    if path.startswith(API):
        return client.generic(method, path, json.dumps(body), content_type="application/json")
    return client.generic(method, path, encode_multipart(BOUNDARY, body), content_type=MULTIPART_CONTENT)


def outcome(answer, route: Route) -> str:
    """``200``, or ``302 login/``: where to, as seen from the mount."""
    if "Location" not in answer:
        return str(answer.status_code)
    mount = "/t/acme/" if route.mount == WORKSPACE else route.mount
    inside = urlsplit(answer["Location"]).path.removeprefix(mount)
    return f"{answer.status_code} {UUID.sub('ID', inside) or './'}"


def canonical(answer, *sent: str) -> tuple:
    """Status, headers and bytes without what differs by itself, and without the ids that the caller sent."""
    names = ("X-Request-ID", "Date", "Expires")
    headers = {name: _without(value, sent) for name, value in answer.items() if name not in names}
    cookies = {}
    for name, morsel in answer.cookies.items():
        attributes = {key: value for key, value in morsel.items() if key != "expires"}
        cookies[_without(name, sent)] = (_cookie(name, morsel.value, sent), _without(str(attributes), sent))
    text = re.sub(r'(csrfmiddlewaretoken" value=")\w+', r"\1", content(answer))
    text = re.sub(r'(?<="challenge": ")[\w-]+', lambda found: str(len(found[0])), text)
    return answer.status_code, headers, cookies, _without(text, sent)


def content(answer) -> str:
    """Every byte of it, each as one character."""
    return (b"".join(answer) if answer.streaming else answer.content).decode("latin-1")


def foreign_texts(answer, path: str, foreign: list[str]) -> list[str]:
    """What the answer holds, in body, header or cookie, of texts that are not the caller's."""
    said = f"{dict(answer.items())} {answer.cookies} {content(answer)}"
    return [text for text in foreign if text in said and text not in path]


def _without(text: str, sent: tuple[str, ...]) -> str:
    for each in sent:
        text = text.replace(each, "SENT")
    return text


def _cookie(name: str, value: str, sent: tuple[str, ...]) -> str:
    """A CSRF cookie is random. A message repeats the id, and its signature is another then."""
    if name.startswith("csrftoken"):
        return str(len(value))
    if name.startswith("messages") and value:
        payload = value.partition(":")[0]
        packed = signing.b64_decode(payload.lstrip(".").encode())
        return _without((zlib.decompress(packed) if payload.startswith(".") else packed).decode(), sent)
    return value


def credentials(world):
    return {"tenant": "acme", "username": "alice", "password": PASSWORD}


def target(world):
    return {"name": f"new {world.next()}", "host": "new.example.com", "ports": [80]}


def target_form(world):
    management = {f"authorizations-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL")}
    return target(world) | {"ports": "[80]", "is_active": "on"} | management


def profile(world):
    return {"name": f"new {world.next()}", "engines": {"ports": {}}}


def account(world):
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    return {"username": f"new{world.next()}", "role": "tester"} | passwords


def account_change(world, plane="acme"):
    fields = {"username": f"new{world.next()}", "role": "tester", "is_active": "on"}
    return fields | {"version": world.version(plane, "user")}


def invitation(world):
    return {"username": f"new{world.next()}", "email": "new@example.com", "role": "tester"}


def new_password(world):
    return {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}


def set_password(world):
    return {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}


# What succeeds when it is allowed. Where nothing is said, nothing is sent.
BODIES = {
    "/api/v1/token/": credentials,
    "/api/v1/token/refresh/": lambda world: {"refresh": world.new_tokens("owner")["refresh"]},
    "/api/v1/token/logout/": lambda world: {"refresh": world.new_tokens("owner")["refresh"]},
    "/api/v1/api-keys/": lambda world: {
        "name": f"new {world.next()}", "expires_at": (timezone.now() + timedelta(days=7)).isoformat(),
    },
    "/api/v1/support-access/<uuid:pk>/grant/": lambda world: {"hours": 1},
    "/t/<slug>/accounts/supportaccess/<uuid:object_id>/decide/": lambda world: {"decision": "refuse"},
    "/operator/tenants/tenant/<uuid:object_id>/support/": lambda world: {
        "reason": "To see why", "scope": "read", "hours": 1,
    },
    "/api/v1/users/": invitation,
    "/api/v1/users/<uuid:pk>/": lambda world: {
        "email": f"new{world.next()}@example.com", "version": world.version("acme", "user"),
    },
    "/api/v1/targets/": target,
    "/api/v1/targets/<uuid:pk>/": lambda world: {
        "name": f"new {world.next()}", "version": world.version("acme", "target"),
    },
    "/api/v1/targets/<uuid:target_id>/authorizations/": lambda world: {
        "statement": "signed", "expires_at": (timezone.now() + timedelta(days=7)).isoformat(),
    },
    "/api/v1/profiles/": profile,
    "/api/v1/scans/": lambda world: {
        "target": world.ids["acme"]["target"], "profile": world.ids["acme"]["scanprofile"],
    },
    "/t/<slug>/login/": credentials,
    "/t/<slug>/password_change/": new_password,
    "/t/<slug>/second-factor/": lambda world: {"step": "begin", "password": PASSWORD},
    "/t/<slug>/open-sessions/": lambda world: {"end": "what has ended", "password": PASSWORD},
    "/t/<slug>/passkeys/": lambda world: {"step": "begin", "name": f"new {world.next()}", "password": PASSWORD},
    "/t/<slug>/password/reset/": lambda world: {"username": f"new{world.next()}"},
    "/t/<slug>/password/set/": lambda world: {"code": f"{MISSING.replace('-', '')}-{'A' * 43}"} | set_password(world),
    "/t/<slug>/accounts/user/invite/": invitation,
    "/t/<slug>/accounts/user/add/": account,
    "/t/<slug>/accounts/user/<path:object_id>/change/": account_change,
    "/t/<slug>/accounts/user/<id>/password/": set_password,
    "/t/<slug>/scans/target/add/": target_form,
    "/t/<slug>/scans/target/<path:object_id>/change/": lambda world: target_form(world) | {
        "authorizations-TOTAL_FORMS": "1", "authorizations-INITIAL_FORMS": "1",
        "authorizations-0-id": world.ids["acme"]["authorization"],
        "authorizations-0-target": world.ids["acme"]["target"], "version": world.version("acme", "target"),
    },
    "/t/<slug>/scans/scanprofile/add/": lambda world: profile(world) | {"engines": '{"ports": {}}'},
    "/t/<slug>/scans/authorization/": lambda world: {
        "action": "revoke", "_selected_action": world.ids["acme"]["authorization"],
    },
    "/operator/login/": credentials,
    "/operator/password_change/": new_password,
    "/operator/second-factor/": lambda world: {"step": "begin", "password": PASSWORD},
    "/operator/open-sessions/": lambda world: {"end": "what has ended", "password": PASSWORD},
    "/operator/passkeys/": lambda world: {"step": "begin", "name": f"new {world.next()}", "password": PASSWORD},
    "/operator/accounts/user/add/": account,
    "/operator/accounts/user/<path:object_id>/change/": lambda world: account_change(world, "control"),
    "/operator/accounts/user/<id>/password/": set_password,
}  # fmt: skip
