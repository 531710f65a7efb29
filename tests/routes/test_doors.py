"""Whether there is such a tenant, and what has become of it, is told to its members alone."""

import pytest

from tests.installation import PASSWORD
from tests.routes.asking import METHODS, ask, body_of, canonical, path_to
from tests.routes.walking import API, WORKSPACE, all_routes
from tests.routes.world import HOMES, PERSONAS, SLUGS, contents, recorded
from tests.tenants.states import set_state

PAGES = {route.name: route for route in all_routes() if route.mount == WORKSPACE or route.name == "/t/<str:slug>"}
TOKEN_ROUTES = ("/api/v1/token/", "/api/v1/token/refresh/", "/api/v1/token/logout/")
GUARDED = [route for route in all_routes() if route.mount == API and route.name not in TOKEN_ROUTES]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
ENTRY = "/t/<slug>/support/enter/"  # without an entry it opens nothing, and one is made for it alone
WRONG = "not the right password"


def ask_page(world, persona, route, method, slug, with_session=True):
    client = world.client(persona)
    if not with_session:
        client.cookies.pop(f"sessionid_{slug}", None)
    path, sent = path_to(route, world, "acme", slug=slug)
    body = body_of(route, world, method) or {}
    if "login" in route.name and "password" in body:
        body["password"] = WRONG
    answer = ask(client, method, path, body or None)
    assert answer.status_code < 500
    return canonical(answer, slug, *sent)


@pytest.mark.parametrize("name", PAGES)
def test_a_workspace_that_is_not_theirs_is_answered_as_one_that_nobody_has(world, name):
    for persona in PERSONAS:
        for slug, unknown in SLUGS.items():
            if HOMES[persona] != slug:
                for method in ("GET", "POST", "DELETE") if slug == "acme" else ("GET",):
                    answers = [
                        ask_page(world, persona, PAGES[name], method, each, with_session=False)
                        for each in (slug, unknown)
                    ]
                    assert answers[0] == answers[1], f"{method} by {persona}"


def test_a_session_that_a_workspace_did_not_open_does_not_tell_whether_there_is_one(world):
    for route in PAGES.values():
        answers = [ask_page(world, "twin", route, "GET", slug) for slug in ("acme", SLUGS["acme"])]
        assert answers[0] == answers[1], route.name


@pytest.mark.parametrize("state", ["provisioning", "deleting", "deleted"])
def test_a_tenant_that_is_not_there_yet_or_any_more_is_unknown_to_its_members_too(world, state):
    set_state("acme", state)

    for route in PAGES.values():
        for method in ("GET", "POST"):
            answers = [ask_page(world, "owner", route, method, slug) for slug in ("acme", SLUGS["acme"])]
            assert answers[0] == answers[1], f"{method} {route.name}"
    client, stranger = world.client("owner"), world.client("anonymous")
    for route in GUARDED:
        for method in METHODS:
            path, _ = path_to(route, world, "acme")
            answers = [canonical(ask(each, method, path, body_of(route, world, method))) for each in (client, stranger)]
            assert answers[0] == answers[1], f"{method} {route.name}"
            assert answers[0][0] == 401


def test_a_suspended_tenant_says_so_to_whoever_proves_to_be_its_member(world):
    set_state("acme", "suspended")

    client = world.client("owner")
    for route in GUARDED:
        for method in METHODS:
            answer = ask(client, method, path_to(route, world, "acme")[0], body_of(route, world, method))
            assert answer.status_code == 403, f"{method} {route.name}"
            assert method == "HEAD" or answer.json()["code"] == "tenant_suspended"
    for route in PAGES.values():
        answers = [ask_page(world, persona, route, "GET", "acme") for persona in ("owner", "anonymous")]
        assert answers[0] == answers[1], route.name


def test_a_tenant_in_maintenance_is_unavailable_on_every_route_and_to_everybody_alike(world):
    set_state("acme", "maintenance")

    for routes, personas in ((GUARDED, ["owner", "tester"]), (PAGES.values(), PERSONAS)):
        for route in routes:
            if route.name != "/t/<str:slug>":
                for method in ("GET", "POST", "DELETE"):
                    path, _ = path_to(route, world, "acme")
                    answers = [ask(world.client(persona), method, path) for persona in personas]
                    assert {answer.status_code for answer in answers} == {503}, f"{method} {route.name}"
                    assert all(int(answer["Retry-After"]) > 0 for answer in answers)
                    assert all(canonical(answer) == canonical(answers[0]) for answer in answers)


def log_in(world, persona, tenant, username="alice", password=PASSWORD):
    body = {"tenant": tenant, "username": username, "password": password}
    return ask(world.client(persona), "POST", "/api/v1/token/", body)


@pytest.mark.parametrize("persona", PERSONAS)
def test_a_log_in_at_an_unknown_tenant_is_answered_as_one_with_a_wrong_password(world, persona):
    wrong = canonical(log_in(world, persona, "acme", password=WRONG))

    assert wrong[0] == 401
    for tenant, username in {SLUGS["acme"]: "alice", "acme": "nobody", "../acme": "alice", "ACME": "alice"}.items():
        assert canonical(log_in(world, persona, tenant, username)) == wrong
    for state in ("provisioning", "deleting", "deleted"):
        set_state("globex", state)
        assert canonical(log_in(world, persona, "globex")) == wrong
    set_state("globex", "suspended")
    assert canonical(log_in(world, persona, "globex", password=WRONG)) == wrong
    assert log_in(world, persona, "globex").status_code == 403


def data(plane):
    """Every row, save that the refusals are recorded."""
    return {table: rows for table, rows in contents(plane).items() if not table.startswith("audit_")}


def test_no_page_changes_anything_without_its_forms_token(world):
    before = {plane: data(plane) for plane in ("acme", "globex", "control")}
    events = {plane: recorded(plane) for plane in before}

    for route in all_routes():
        if route.mount != API and not route.name.startswith("/api/"):
            persona = "operator" if route.name.startswith("/operator") else "owner"
            client = world.client(persona, enforce_csrf_checks=True)
            path, _ = path_to(route, world, "control" if persona == "operator" else "acme")
            for method in UNSAFE:
                answer = ask(client, method, path, body_of(route, world, method))
                assert answer.status_code in (403, 404, 405), f"{method} {route.name}"
                assert answer.status_code == 403 or route.name in ("/", "/healthz", "/readyz", "/metrics", ENTRY)
    assert {plane: data(plane) for plane in ("acme", "globex", "control")} == before
    assert {action for plane in before for action in recorded(plane)[len(events[plane]) :]} == {"refused"}
