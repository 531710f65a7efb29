"""The requests of tests/routes/timing.py, and an installation to make them to."""

import gc
from contextlib import contextmanager

from uuid_utils.compat import uuid7

from tenants import connections
from tenants.embedded import MariaDB, Redis
from tests.environment import HOME
from tests.installation import MySQLInstallation, SQLiteInstallation
from tests.routes.asking import METHODS, ask, body_of, canonical, kinds, path_to
from tests.routes.table import read_table
from tests.routes.timing import DELAY, Times
from tests.routes.walking import API, OPERATOR, Route, all_routes
from tests.routes.world import MISSING, World

WARM_UP = 10
FASTEST_OF = 5  # what else the machine does makes requests slower, never faster


@contextmanager
def open_installation(engine, home):
    with Redis(HOME):
        if engine == "sqlite":
            SQLiteInstallation(home)
            yield World()
        else:
            with MariaDB(home / "server") as server:
                MySQLInstallation(home, server)
                yield World()
                connections.close_tenant_connections()


def all_requests() -> list[tuple[Route, str]]:
    """Every detail route that acme's owner may use, by the methods that do something there."""
    table = read_table(METHODS)
    return [
        (route, method)
        for route in all_routes()
        if kinds(route) and route.mount != OPERATOR
        for method in (("GET", "PATCH", "POST") if route.mount == API else ("GET",))
        if table[route.name][method]["owner"] != "405"
    ]


def measure(world, request: tuple[Route, str], rounds: int, order, clock) -> Times:
    route, method = request
    asked = {"foreign": path_to(route, world, "globex"), "missing": _with_new_ids(route, world)}
    world.tokens["owner"] = world.new_tokens("owner")  # the last ones may have expired
    client, body = world.client("owner"), body_of(route, world, method)
    client.defaults["HTTP_HOST"] = "localhost"
    client.get("/t/acme/")  # once a minute the first page of a session writes that it is used
    answers = [canonical(_ask(world, client, method, path, body), *sent) for path, sent in asked.values()]
    assert answers[0] == answers[1] and answers[0][0] in (302, 403, 404), f"{method} {route.name}: {answers}"

    def take(name: str, delay: int = 0) -> int:
        began = clock()
        _ask(world, client, method, asked[name][0], body)
        until = clock() + delay
        while delay and clock() < until:
            pass
        return clock() - began

    usual = min(take(name) for _ in range(WARM_UP) for name in asked)
    ways = {"foreign": ("foreign", 0), "missing": ("missing", 0), "delayed": ("foreign", int(usual * DELAY))}
    return Times(f"{method} {route.name}", **in_rounds(rounds, ways, take, order))


def _ask(world, client, method, path, body):
    client.cookies = world.cookies("owner")
    return ask(client, method, path, body)


def in_rounds(rounds: int, ways: dict, take, order, fastest_of: int = FASTEST_OF) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {name: [] for name in ways}
    gc.disable()
    try:
        for number in range(rounds):
            if number % 20 == 0:
                gc.collect()
            for name in order.sample(list(ways), len(ways)):
                taken[name].append(min(take(*ways[name]) for _ in range(fastest_of)))
    finally:
        gc.enable()
    return taken


def _with_new_ids(route, world) -> tuple[str, tuple[str, ...]]:
    """Ids as young as the foreign ones: where in an index they would stand must not be what is measured."""
    path, sent = path_to(route, world, "")
    new = [str(uuid7()) for _ in sent]
    for pk in new:
        path = path.replace(MISSING, pk, 1)
    return path, tuple(new)
