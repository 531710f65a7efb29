"""A response's body is made after its request has ended: each step of it, and its end, get their plane again."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase

from tenants.binding import run_after_unbind
from tenants.facets import entered
from tenants.planes import Bound, _bound
from tenants.request_ids import request_id
from tenants.sentinel import unchanged

_closing: set[asyncio.Task] = set()  # an event loop holds its tasks weakly


@dataclass(frozen=True)
class _Origin:
    bound: Bound
    request_id: str

    @contextmanager
    def resumed(self):
        """Unconditional: an abandoned body is finalised in whatever task the collector happens to run."""
        tokens = _bound.set(self.bound), request_id.set(self.request_id)
        try:
            with entered(self.bound), unchanged(f"a step of the body of request {self.request_id}"):
                yield
        finally:
            _bound.reset(tokens[0])
            request_id.reset(tokens[1])

    def run(self, act: Callable[[], Any]) -> Any:
        try:
            with self.resumed():
                return act()
        finally:
            self.run_hooks()

    def run_hooks(self) -> None:
        """What a step registered with ``after_unbind``, in what was bound around its request, whoever iterates."""
        if not self.bound.after_unbind:
            return
        token = _bound.set(self.bound.outer)
        try:
            run_after_unbind(self.bound)
        finally:
            _bound.reset(token)

    async def run_hooks_async(self) -> None:
        if self.bound.after_unbind:
            await sync_to_async(self.run_hooks)()


def keep_bound(response: Any, bound: Bound) -> HttpResponseBase:
    origin = _Origin(bound, request_id.get())
    response._resource_closers = [partial(origin.run, closer) for closer in response._resource_closers]
    if response.streaming:
        kind = _AsyncBody if response.is_async else _Body
        response.streaming_content = kind(response._iterator, origin)
    return response


class _Body:
    """Whoever iterates is bound to nothing, or to something else, between two steps."""

    def __init__(self, body: Iterator, origin: _Origin):
        self.body = body
        self.origin = origin
        # A body that nobody closes ends when it is dropped, in whatever thread that happens: in its plane all the same.
        self.close = weakref.finalize(self, origin.run, getattr(body, "close", _nothing))
        self.close.atexit = False

    def __iter__(self):
        return self

    def __next__(self):
        return self.origin.run(self.body.__next__)


class _AsyncBody:
    def __init__(self, body: AsyncIterator, origin: _Origin):
        self.body = body
        self.origin = origin
        self._end: Callable[[], object] = _nothing

    def close(self) -> None:
        self._end()

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._end is _nothing and hasattr(self.body, "aclose"):
            self._end = weakref.finalize(self, _close_in, asyncio.get_running_loop(), self.origin, self.body.aclose)
            self._end.atexit = False
        try:
            with self.origin.resumed():
                return await anext(self.body)
        finally:
            await self.origin.run_hooks_async()


def _nothing() -> None:
    pass


def _close_in(loop: asyncio.AbstractEventLoop, origin: _Origin, aclose) -> None:
    """From any thread: an asynchronous generator can be closed in its own event loop only."""

    async def close() -> None:
        try:
            with origin.resumed():
                await aclose()
        finally:
            await origin.run_hooks_async()

    def start() -> None:
        task = loop.create_task(close())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    with suppress(RuntimeError):  # the loop has ended, and its generators with it
        loop.call_soon_threadsafe(start)
