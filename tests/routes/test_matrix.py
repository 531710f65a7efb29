"""Every route, by every method, asked by everybody: as docs/reference/routes.md says, and nothing of anybody else."""

import pytest

from tests.routes.asking import METHODS, ask, body_of, foreign_texts, outcome, path_to
from tests.routes.table import COLUMNS, as_rows, read_table
from tests.routes.walking import API, OPERATOR, all_routes
from tests.routes.world import HOMES, PERSONAS, SLUGS, contents, models_without_a_row

ROUTES = {route.name: route for route in all_routes()}
TABLE = read_table(METHODS)
# Whoever knows the credentials opens the plane that they are of.
OPENED_BY_CREDENTIALS = dict.fromkeys(("/api/v1/token/", "/api/v1/token/refresh/", "/api/v1/token/logout/"), "acme")
OPENED_BY_CREDENTIALS |= {"/t/<slug>/password/reset/": "acme"}  # by anybody's wish, which is written down
OPENED_BY_CREDENTIALS |= {"/t/<slug>/login/": "acme", "/operator/login/": "control"}
# What an operator asks of a tenant stands in its database.
ASKED_OF_A_TENANT = {("operator", "/operator/tenants/tenant/<uuid:object_id>/support/"): "globex"}


def test_every_route_has_a_row_and_every_row_a_route():
    assert set(TABLE) == set(ROUTES)


def test_every_row_says_what_each_method_is_answered():
    assert {name: set(answers) for name, answers in TABLE.items()} == dict.fromkeys(ROUTES, set(METHODS))


def test_every_model_of_a_tenant_has_a_row_in_both(world):
    for slug in SLUGS:
        assert models_without_a_row(slug) == set()


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_answers_everybody_as_its_row_says_and_tells_nobody_of_others(world, name):
    route, observed, told = ROUTES[name], {method: {} for method in METHODS}, []
    path, _ = path_to(route, world, "control" if route.mount == OPERATOR else "acme")
    for persona, methods in rounds(route):
        others = {"acme", "globex", "control"} - {HOMES[persona], OPENED_BY_CREDENTIALS.get(name)}
        others -= {ASKED_OF_A_TENANT.get((persona, name))}
        before = {plane: contents(plane) for plane in others}
        client = world.client(persona)
        for method in methods:
            client.cookies = world.cookies(persona)
            answer = ask(client, method, path, body_of(route, world, method))
            observed[method][persona] = outcome(answer, route)
            told += [(persona, method, text) for text in foreign_texts(answer, path, world.foreign_to(persona))]
        assert {plane: contents(plane) for plane in others} == before, f"{persona} changed what is not theirs"

    assert "\n".join(as_rows(name, observed)) == "\n".join(as_rows(name, TABLE[name]))
    assert told == []
    assert all(int(cell[:3]) < 500 for answers in observed.values() for cell in answers.values())


def rounds(route):
    """Through the API rows can be deleted: that comes when everybody has asked everything else."""
    if route.mount != API:
        return [(persona, METHODS) for persona in PERSONAS]
    others = [method for method in METHODS if method != "DELETE"]
    return [(persona, methods) for methods in (others, ["DELETE"]) for persona in PERSONAS]


def test_the_columns_are_the_personas():
    assert set(COLUMNS) == set(PERSONAS) == set(HOMES)
