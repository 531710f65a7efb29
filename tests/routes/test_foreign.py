"""An id of somebody else's is answered as one that nobody ever had: status, headers and bytes, wherever it is sent."""

from itertools import product

import pytest

from tests.routes.asking import METHODS, ask, body_of, canonical, foreign_texts, kinds, path_to
from tests.routes.walking import OPERATOR, WORKSPACE, all_routes
from tests.routes.world import HOMES, MISSING, PERSONAS, contents

DETAIL = {route.name: route for route in all_routes() if kinds(route)}
PLANES = ["acme", "globex", "control"]


def reached(route, persona: str) -> str:
    """The plane whose rows the route shows the persona, if any."""
    if route.mount == WORKSPACE:
        return "acme" if HOMES[persona] == "acme" else ""
    if route.mount == OPERATOR:
        return "control" if persona == "operator" else ""
    return HOMES[persona] if persona != "operator" else ""


def pairs(route, world, persona: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Ids of these planes, one for each parameter, are to be answered as ids of those. "" is an id that nobody has."""
    own = reached(route, persona)
    choices = [[plane for plane in PLANES if kind in world.ids[plane]] for kind in kinds(route).values()]
    found = [(planes, tuple(plane if plane == own else "" for plane in planes)) for planes in product(*choices)]
    return [(planes, alike) for planes, alike in found if planes != alike]


@pytest.mark.parametrize("name", DETAIL)
def test_an_id_in_a_path_that_is_not_theirs_is_answered_as_one_that_nobody_has(world, name):
    route = DETAIL[name]
    for persona in PERSONAS:
        client, alike = world.client(persona), pairs(route, world, persona)
        for method in METHODS if reached(route, persona) else ("GET", "POST"):
            answers = {}
            for planes in {planes for pair in alike for planes in pair}:
                path, sent = path_to(route, world, *planes)
                client.cookies = world.cookies(persona)
                answer = ask(client, method, path, body_of(route, world, method))
                assert answer.status_code < 500
                assert foreign_texts(answer, path, world.foreign_to(persona)) == []
                answers[planes] = canonical(answer, *sent)
            for planes, missing in alike:
                assert answers[planes] == answers[missing], f"{method} by {persona}"


def api(method, path, **body):
    return method, "/api/v1/" + path, body


def page(method, path, **body):
    return method, "/t/acme/" + path, body


VERSION = object()  # the one that acme's target is at
# Where else an id can be sent: of what it is, and how. {target} is acme's own.
ELSEWHERE = {
    "a scan's target": ("target", api("POST", "scans/", target="{ID}", profile="{scanprofile}")),
    "a scan's profile": ("scanprofile", api("POST", "scans/", target="{target}", profile="{ID}")),
    "findings of a target": ("target", api("GET", "findings/?target={ID}")),
    "findings of a scan": ("scan", api("GET", "findings/?scan={ID}")),
    "findings beyond a page": ("target", api("GET", "findings/?target={ID}&limit=1&offset=1")),
    "a query that the list has not": ("target", api("GET", "targets/?id={ID}&search={ID}")),
    "an id for what is changed": ("target", api("PATCH", "targets/{target}/", id="{ID}", name="x", version=VERSION)),
    "whom a target is from": ("user", api("PATCH", "targets/{target}/", created_by="{ID}", name="x", version=VERSION)),
    "whose an authorization is": (
        "target",
        api("POST", "targets/{target}/authorizations/", target="{ID}", statement="x", expires_at="1999-01-01"),
    ),
    "a page's filter by target": ("target", page("GET", "scans/scan/?target__id__exact={ID}")),
    "a page's filter of findings": ("target", page("GET", "scans/finding/?target__id__exact={ID}")),
    "a page's filter of authorizations": ("target", page("GET", "scans/authorization/?target__id__exact={ID}")),
    "a page's filter by its own id": ("target", page("GET", "scans/target/?id__exact={ID}")),
    "a page's filter by who made it": ("user", page("GET", "scans/target/?created_by__id__exact={ID}")),
    "a page's search": ("target", page("GET", "scans/target/?q={ID}")),
    "a form's first values": ("target", page("GET", "scans/target/add/?id={ID}&created_by={ID}&name={ID}")),
    "a completion": (
        "target",
        page("GET", "autocomplete/?app_label=scans&model_name=scan&field_name=target&term={ID}"),
    ),
    "an action's selection": (
        "authorization",
        page("POST", "scans/authorization/", action="revoke", _selected_action="{ID}"),
    ),
    "an inline row": (
        "authorization",
        page(
            "POST",
            "scans/target/{target}/change/",
            name="x", host="x.example", ports="[80]", version=VERSION,
            **{"authorizations-0-target": "{target}"},
            **{"authorizations-TOTAL_FORMS": "1", "authorizations-INITIAL_FORMS": "1", "authorizations-0-id": "{ID}"},
        ),
    ),
    "an inline row's parent": (
        "target",
        page(
            "POST",
            "scans/target/{target}/change/",
            name="x", host="x.example", ports="[80]", version=VERSION,
            **{"authorizations-0-target": "{ID}"},
            **{"authorizations-TOTAL_FORMS": "1", "authorizations-INITIAL_FORMS": "0"},
            **{"authorizations-0-statement": "x", "authorizations-0-intrusiveness": "passive"},
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("persona", ["owner", "tester"])
def test_an_id_sent_elsewhere_is_answered_as_one_that_nobody_has(world, persona, where):
    kind, (method, path, body) = ELSEWHERE[where]
    client, answers, before = world.client(persona), [], contents("globex")
    for pk in (world.ids["globex"][kind], MISSING):
        ids = world.ids["acme"] | {"ID": pk}
        filled = {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}
        filled |= {name: world.version("acme", "target") for name, value in body.items() if value is VERSION}
        client.cookies = world.cookies(persona)
        answer = ask(client, method, path.format(**ids), filled or None)
        assert answer.status_code < 500
        assert foreign_texts(answer, pk, world.foreign_to(persona)) == []
        answers.append(canonical(answer, pk))

    assert answers[0] == answers[1]
    assert contents("globex") == before
