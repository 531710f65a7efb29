"""Facets: bound with a tenant, released with it in reverse order, however either ends."""

import asyncio
import io
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.db import transaction
from django.test import RequestFactory

from scans.models import ScanProfile
from tenants import facets
from tenants.context import control_plane, tenant_context
from tenants.exceptions import WrongTenantError
from tenants.facets import Facet, register
from tenants.planes import current
from tests.tenants import streams
from tests.tenants.forge import Forge

seen: list[str] = []
mailbox: ContextVar[str] = ContextVar("mailbox", default="nobody's")


class Noting(Facet):
    """Notes when it is entered and left, and where; fails where it is told to."""

    def __init__(self, name, fails=()):
        self.name = name
        self.fails = fails

    @contextmanager
    def bind(self, bound):
        self.note("enter", bound)
        token = mailbox.set(f"{bound.record.snapshot.slug}'s")
        yield
        mailbox.reset(token)
        self.note("leave", bound)

    def note(self, what, bound):
        assert current() is bound
        seen.append(f"{what} {self.name}")
        if what in self.fails:
            raise RuntimeError(f"{what} {self.name}")


class Quiet(Facet):
    name = "quiet"

    def probe(self):
        return str(current())


class Absent(Facet):
    name = "absent"

    def bind(self, bound):
        seen.append("absent")


@pytest.fixture
def with_facets(monkeypatch):
    monkeypatch.setattr(facets, "_facets", {})
    monkeypatch.setattr(facets, "_with_bind", [])
    seen.clear()

    def use(*chosen):
        for facet in chosen:
            register(facet)

    return use


def bind_sync(slug, work=lambda: None):
    with tenant_context(slug):
        work()


def bind_async(slug, work=lambda: None):
    async def main():
        async with tenant_context(slug):
            work()
        assert (current(), mailbox.get()) == (None, "nobody's")

    asyncio.run(main())


BINDINGS = {"with": bind_sync, "async with": bind_async}
each_binding = pytest.mark.parametrize("bind", BINDINGS.values(), ids=BINDINGS)
ALL = ["enter first", "enter second", "enter third", "leave third", "leave second", "leave first"]


@each_binding
def test_facets_are_entered_in_order_and_left_in_reverse_while_the_tenant_is_bound(acme, with_facets, bind):
    with_facets(Noting("first"), Quiet(), Noting("second"), Noting("third"))

    bind("acme", lambda: seen.append(mailbox.get()))

    assert seen == [*ALL[:3], "acme's", *ALL[3:]]
    assert mailbox.get() == "nobody's"


@each_binding
def test_facets_are_left_when_the_block_fails_and_cannot_swallow_its_error(acme, with_facets, bind):
    with_facets(Noting("first"), Noting("second"), Noting("third"))

    with pytest.raises(ZeroDivisionError):
        bind("acme", lambda: 1 / 0)

    assert seen == ALL


@each_binding
def test_a_facet_that_cannot_be_bound_leaves_nothing_bound(acme, with_facets, bind):
    with_facets(Noting("first"), Noting("second", ["leave"]), Noting("third", ["enter"]), Noting("fourth"))

    with pytest.raises(RuntimeError, match="enter third"):
        bind("acme", lambda: pytest.fail("was bound"))

    assert seen == ["enter first", "enter second", "enter third", "leave second", "leave first"]
    assert (current(), mailbox.get()) == (None, "nobody's")


@each_binding
def test_a_facet_that_cannot_be_released_keeps_neither_the_others_nor_the_tenant(acme, with_facets, bind, caplog):
    with_facets(Noting("first"), Noting("second", ["leave"]), Noting("third", ["leave"]))

    with pytest.raises(RuntimeError, match="leave second"):
        bind("acme")

    assert seen == ALL
    assert current() is None
    assert "A facet of tenant 'acme' could not be released" in caplog.text


@each_binding
def test_a_release_that_fails_does_not_hide_the_blocks_own_error(acme, with_facets, bind, caplog):
    with_facets(Noting("first", ["leave"]), Noting("second"), Noting("third"))

    with pytest.raises(ZeroDivisionError):
        bind("acme", lambda: 1 / 0)

    assert (seen, current()) == (ALL, None)
    assert "RuntimeError: leave first" in caplog.text


def test_a_release_that_fails_does_not_hide_an_open_transaction(acme, with_facets):
    with_facets(Noting("first", ["leave"]))

    with pytest.raises(WrongTenantError, match="open transaction"), tenant_context("acme"):
        transaction.atomic().__enter__()
        ScanProfile.objects.count()

    assert current() is None


def test_the_same_tenant_again_enters_nothing(acme, with_facets):
    with_facets(Noting("first"))

    with control_plane():
        assert seen == []
        with tenant_context("acme"), tenant_context(acme.id):
            assert seen == ["enter first"]
        assert seen == ["enter first", "leave first"]


def test_what_a_generator_bound_is_left_with_the_block_around_it(acme, with_facets):
    with_facets(Noting("first"), Noting("second"))

    def holding():
        with tenant_context("acme"):
            yield

    generator = holding()
    with pytest.raises(WrongTenantError, match="across a yield"), control_plane():
        next(generator)

    assert seen == ["enter first", "enter second", "leave second", "leave first"]
    with pytest.raises(WrongTenantError, match="where nothing is bound"):
        generator.close()


def test_a_facet_may_bind_nothing_and_one_without_bind_is_not_asked(acme, with_facets):
    with_facets(Quiet())
    with tenant_context("acme"):
        assert current().facets is None
    register(Absent())
    with tenant_context("acme"):
        assert seen == ["absent"]


def test_concurrent_tasks_have_their_own(acme, globex, with_facets):
    with_facets(Noting("first"))

    async def one(slug):
        async with tenant_context(slug):
            await asyncio.sleep(0)
            before = mailbox.get()
            await asyncio.sleep(0)
            return before, mailbox.get()

    async def main():
        return await asyncio.gather(*(one(slug) for slug in ["acme", "globex"] * 4))

    assert asyncio.run(main()) == [("acme's", "acme's"), ("globex's", "globex's")] * 4


def test_a_name_is_registered_once(with_facets):
    with_facets(Quiet())

    with pytest.raises(ImproperlyConfigured, match="'quiet'"):
        register(Quiet())


@pytest.fixture
def serve(settings, alice, globex):
    """A WSGI request of alice's, up to the first step of its body."""
    settings.ROOT_URLCONF = "tests.tenants.plane_views"
    streams.ends.clear()
    token = Forge(alice).genuine

    def ask(view):
        environ = RequestFactory(headers={"Authorization": f"Bearer {token}"})._base_environ(
            PATH_INFO=f"/api/v1/{view}/", **{"wsgi.input": io.BytesIO()}
        )
        return WSGIHandler()(environ, lambda status, headers: None)

    return ask


def test_each_step_of_a_streamed_body_has_its_facets_and_its_consumer_has_none(serve, with_facets):
    with_facets(Noting("first"), Noting("second"))
    body = serve("rows")
    assert seen == ["enter first", "enter second", "leave second", "leave first"]

    for _ in body:
        assert mailbox.get() == "nobody's"
    body.close()

    assert seen.count("enter second") == seen.count("leave second") > 3
    assert seen.index("leave second") < seen.index("leave first")


def test_a_step_that_fails_leaves_its_facets_and_keeps_its_error(serve, with_facets, caplog):
    with_facets(Noting("first"), Noting("second"))
    body = serve("failing")
    facets._with_bind[0].fails = ["leave"]
    steps = iter(body)
    with pytest.raises(RuntimeError, match="leave first"):
        next(steps)

    with pytest.raises(ValueError, match="a bug"):
        next(steps)
    assert "leave first" in caplog.text and mailbox.get() == "nobody's"
    facets._with_bind[0].fails = []
    body.close()
