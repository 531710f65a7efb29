"""A streamed body: each step and its end in the plane of its request, and whoever consumes it in none."""

import asyncio
import gc
import io
import time

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory

from tenants import bodies
from tenants.context import tenant_context
from tenants.planes import current
from tests.tenants import streams
from tests.tenants.forge import Forge

ENDED_IN_ACME = ["tenant 'acme' 2"]


@pytest.fixture
def ask(settings, alice, globex):
    """The server's side of a request: a WSGI environment for alice's ``/api/v1/<view>/``."""
    settings.ROOT_URLCONF = "tests.tenants.plane_views"
    streams.ends.clear()
    streams.told.clear()
    token = Forge(alice).genuine

    def environ(view):
        return RequestFactory(headers={"Authorization": f"Bearer {token}"})._base_environ(
            PATH_INFO=f"/api/v1/{view}/", **{"wsgi.input": io.BytesIO()}
        )

    return environ


@pytest.fixture
def scope(ask):
    def for_asgi(view):
        environ = ask(view)
        return {
            "type": "http",
            "method": "GET",
            "path": environ["PATH_INFO"],
            "query_string": b"",
            "headers": [(b"authorization", environ["HTTP_AUTHORIZATION"].encode()), (b"host", b"localhost")],
        }

    return for_asgi


def serve(environ):
    statuses = []
    body = WSGIHandler()(environ, lambda status, headers: statuses.append(status))
    assert statuses == ["200 OK"]
    return body


@pytest.mark.parametrize("view", ["rows", "rows-async", "rows-async-from-sync"])
def test_each_step_is_bound_and_its_consumer_is_not(ask, view):
    consumers, steps = [], []

    body = serve(ask(view))
    if "async" in view:
        with pytest.warns(Warning, match="asynchronous iterators"):
            iterator = iter(body)
    else:
        iterator = iter(body)
    for step in iterator:
        steps.append(step.decode())
        consumers.append(current())
    body.close()

    assert steps == ["tenant 'acme' 2\n"] * 3
    assert consumers == [None] * 3
    assert streams.ends == ENDED_IN_ACME


def test_a_consumer_that_is_bound_itself_stays_so(ask):
    body = serve(ask("rows"))

    with tenant_context("globex"):
        steps = [(step.decode(), str(current())) for step in body]
        body.close()

    assert steps == [("tenant 'acme' 2\n", "tenant 'globex'")] * 3


def test_a_body_that_is_abandoned_and_closed_ends_in_its_plane(ask):
    body = serve(ask("rows"))
    next(iter(body))

    body.close()

    assert (streams.ends, current()) == (ENDED_IN_ACME, None)


def test_a_body_that_nobody_closes_ends_in_its_plane_wherever_it_is_dropped(ask):
    body = serve(ask("rows"))
    next(iter(body))

    with tenant_context("globex"):
        del body
        gc.collect()
        assert str(current()) == "tenant 'globex'"

    assert streams.ends == ENDED_IN_ACME


def test_a_body_in_a_cycle_of_garbage_ends_in_its_plane(ask):
    body = serve(ask("rows"))
    next(iter(body))
    body.itself = body

    with tenant_context("globex"):
        del body
        gc.collect()

    assert streams.ends == ENDED_IN_ACME


def test_a_body_that_fails_leaves_nothing_bound(ask):
    body = serve(ask("failing"))

    with pytest.raises(ValueError, match="a bug"):
        list(body)
    assert current() is None
    body.close()

    assert streams.ends == ["tenant 'acme'"]


def test_a_body_that_is_never_begun_ends_quietly(ask):
    serve(ask("rows")).close()

    assert streams.ends == []


TOLD = ["step 0 nothing", "step 1 nothing", "end nothing"]


def test_what_a_step_tells_after_its_binding_is_told_before_the_next_and_where_nothing_is_bound(ask):
    body = serve(ask("telling"))

    with tenant_context("globex"):
        steps = [step.decode() for step in body]
        assert str(current()) == "tenant 'globex'"

    assert (steps, streams.told) == (["0 told\n", "1 told\n"], TOLD)
    body.close()


def test_the_end_of_an_abandoned_body_is_told_too(ask):
    body = serve(ask("telling"))
    next(iter(body))

    body.close()

    assert streams.told == [TOLD[0], TOLD[2]]


def converse(scope, view, hear=lambda sent, disconnect: None):
    """Runs one ASGI request; ``hear`` sees each message and may disconnect. The messages, and the bindings between."""

    async def run():
        sent, bindings = [], []
        gone, asked = asyncio.Event(), False

        async def receive():
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            bindings.append(current())
            sent.append(message.get("body", b"").decode() or message.get("status"))
            hear(sent, gone.set)
            await asyncio.sleep(0.2 if gone.is_set() else 0)

        if view == "wait":
            asyncio.get_running_loop().call_later(0.2, gone.set)
        await ASGIHandler()(scope(view), receive, send)
        bindings.append(current())
        deadline = time.monotonic() + 5
        while not streams.ends and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not bodies._closing or all(not task.cancelled() for task in bodies._closing)
        return sent, bindings

    return asyncio.run(run())


@pytest.mark.parametrize("view", ["rows", "rows-async", "rows-async-from-sync"])
def test_each_step_is_bound_under_asgi(scope, view):
    if view == "rows":
        with pytest.warns(Warning, match="synchronous iterators"):
            sent, bindings = converse(scope, view)
    else:
        sent, bindings = converse(scope, view)

    assert sent == [200, *["tenant 'acme' 2\n"] * 3, None]
    assert set(bindings) == {None}
    assert streams.ends == ENDED_IN_ACME


def test_what_a_step_tells_is_told_under_asgi_too(scope):
    sent, bindings = converse(scope, "telling-async")

    assert sent == [200, "0 told\n", "1 told\n", None]
    assert (streams.told, set(bindings)) == (TOLD, {None})


def test_a_client_that_disconnects_between_two_steps_ends_the_body_in_its_plane(scope):
    sent, bindings = converse(scope, "endless", lambda sent, disconnect: disconnect() if len(sent) > 3 else None)

    assert set(sent[1:]) == {"tenant 'acme'"}
    assert set(bindings) == {None}
    assert streams.ends == ["tenant 'acme'"]


def test_what_the_end_of_an_abandoned_async_body_tells_is_told(scope):
    converse(scope, "endless-telling", lambda sent, disconnect: disconnect() if len(sent) > 3 else None)

    assert streams.ends == ["told in nothing"]


def test_a_client_that_disconnects_within_a_step_ends_the_body_in_its_plane(scope):
    def hear(sent, disconnect):
        if len(sent) == 2:  # the first row is out, and the second is waited for
            asyncio.get_running_loop().call_later(0.2, disconnect)

    sent, bindings = converse(scope, "one-and-wait", hear)

    assert sent == [200, "tenant 'acme'"]
    assert set(bindings) == {None}
    assert streams.ends == ["tenant 'acme'"]


def test_a_client_that_disconnects_while_the_view_works_leaves_nothing_bound(scope):
    sent, bindings = converse(scope, "wait")

    assert (sent, bindings) == ([], [None])
    assert streams.ends == ["tenant 'acme'"]
