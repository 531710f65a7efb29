"""Threads that do one thing at a time, when they are told to: what a scheduler needs to decide who is next."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

SECONDS = 60  # a step that takes longer hangs


class Lane:
    """A thread with connections of its own. Units in it take turns, each in its own context."""

    def __init__(self, number: int):
        self.number = number
        self._work: SimpleQueue = SimpleQueue()
        self._done: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (act := self._work.get()) is not None:
            try:
                self._done.put((act(), None))
            except BaseException as error:
                self._done.put((None, error))
            del act

    def run(self, act: Callable[[], Any]) -> Any:
        self._work.put(act)
        value, error = self._done.get(timeout=SECONDS)
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        self._work.put(None)
        self._thread.join()


class Steps:
    """A unit of work as a generator; its context is its own, as a task's is."""

    def __init__(self, lane: Lane, generator: Any):
        self._lane, self._generator, self._context = lane, generator, Context()

    def step(self) -> bool:
        """Whether there is more to come. Raises what the unit raises."""
        return self._lane.run(self._once)

    def _once(self) -> bool:
        try:
            self._context.run(next, self._generator)
        except StopIteration:
            return False
        return True


class LoopLane:
    """A thread with an event loop, in which asynchronous units take turns."""

    def __init__(self, number: int):
        self.number = number
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, act: Callable[[], Any]) -> Any:
        """In the thread where Django's asynchronous code has its connections."""
        from asgiref.sync import sync_to_async

        return asyncio.run_coroutine_threadsafe(sync_to_async(act)(), self.loop).result(SECONDS)

    def end(self) -> None:
        async def settle() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self.loop.shutdown_asyncgens()

        asyncio.run_coroutine_threadsafe(settle(), self.loop).result(SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Turns:
    """An asynchronous unit: one task from beginning to end, which waits for its turn where it awaits ``turn()``."""

    def __init__(self, lane: LoopLane, make: Callable[["Turns"], Any]):
        self._lane, self._make = lane, make
        self._task: asyncio.Task | None = None
        self._parked = threading.Event()
        self._next: asyncio.Future | None = None

    async def turn(self) -> None:
        self._next = self._lane.loop.create_future()
        self._parked.set()
        await self._next

    def step(self) -> bool:
        self._parked.clear()
        self._lane.loop.call_soon_threadsafe(self._start if self._task is None else self._resume)
        if not self._parked.wait(SECONDS):
            raise TimeoutError("An asynchronous unit does not come to its next turn.")
        if self._task is not None and self._task.done():
            self._task.result()
            return False
        return True

    def _start(self) -> None:
        self._task = self._lane.loop.create_task(self._make(self), context=Context())
        self._task.add_done_callback(lambda task: self._parked.set())

    def _resume(self) -> None:
        assert self._next is not None
        self._next.set_result(None)
