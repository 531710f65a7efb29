"""
The same units running freely: threads and the tasks of an event loop, side by side, nobody deciding who is next.

Each thread and task has tenants of its own, so that what they must hold is known here too; what is left on the shelf
goes to all of them.
"""

import asyncio
import random
import threading
import time
from collections import deque
from contextvars import Context
from typing import Any

from asgiref.sync import sync_to_async

from tests.interleaving.canaries import Found, Unexpected
from tests.interleaving.machine import Failure, Machine, Schedule, Tally
from tests.interleaving.unit import KINDS, Unit

THREADS = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
TASKS = ((12, 13), (14, 15))


class _Driver:
    """What a machine is to its units: one unit at a time."""

    held: dict[int, int]

    def __init__(self, all_of_them: "_Stress", number: int, tenants: tuple[int, ...]):
        machine = all_of_them.machine
        self.stack, self.count, self.ledgers = machine.stack, machine.count, machine.ledgers
        self.emphasis = machine.emphasis
        self.number, self.tenants, self.all = number, tenants, all_of_them
        self.has_jobs = number == 0  # there is one queue
        self.shelf = machine.shelf
        self.lent: list = []
        self.litter: list = []
        self.held = {}
        self.jobs: deque = deque()
        self.serial = number * 10**8
        self.tally, self.trace = Tally(), deque(maxlen=60)
        self.chance = random.Random(f"{all_of_them.schedule.seed}/stress/{number}")
        self.units = 0

    def note(self, unit: Unit, what: str) -> None:
        self.trace.append(f"driver {self.number}: unit {unit.number} ({unit.kind}) in {unit.here}: {what}")

    def next_unit(self, is_async: bool) -> tuple[Unit, Any]:
        kinds = {name: kind for name, kind in KINDS.items() if kind.is_async == is_async}
        name = self.chance.choices(list(kinds), [kind.weight for kind in kinds.values()])[0]
        self.units += 1
        return Unit(self, self.units, name, self.number, random.Random(self.chance.random())), kinds[name].run

    def may_go_on(self) -> bool:
        return self.all.failure is None and self.all.done() < self.all.schedule.operations

    def in_thread(self) -> None:
        try:
            while self.may_go_on():
                unit, run = self.next_unit(is_async=False)
                context, generator = Context(), run(unit)
                while context.run(next, generator, self) is not self:
                    pass
        except BaseException as error:
            self.fail(unit, error)
        finally:
            self.litter.clear()
            self.stack.let_go()

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def in_task(self) -> None:
        unit = None
        try:
            while self.may_go_on():
                unit, run = self.next_unit(is_async=True)
                await run(unit, self)
        except BaseException as error:
            self.fail(unit, error)

    def fail(self, unit: Any, error: BaseException) -> None:
        if not isinstance(error, Found):
            told = Unexpected(f"{type(error).__name__} in a {unit.kind}: {error}")
            told.__cause__ = error
            error = told
        self.all.failure = self.all.failure or Failure(error, self.all.done(), [], [], list(self.trace))


class _Stress:
    def __init__(self, machine: Machine, schedule: Schedule):
        self.machine, self.schedule = machine, schedule
        self.failure: Failure | None = None
        self.drivers = [_Driver(self, number, tenants) for number, tenants in enumerate((*THREADS, *TASKS))]

    def done(self) -> int:
        return sum(driver.tally.total for driver in self.drivers)

    def run(self) -> None:
        threads = [threading.Thread(target=each.in_thread, daemon=True) for each in self.drivers[: len(THREADS)]]
        threads.append(threading.Thread(target=self._loop, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            if thread.is_alive():
                raise Unexpected("A thread does not come to its end.")

    def _loop(self) -> None:
        async def main() -> None:
            await asyncio.gather(*(each.in_task() for each in self.drivers[len(THREADS) :]))
            await sync_to_async(self.machine.stack.let_go)()

        asyncio.run(main())


def stress(machine: Machine, schedule: Schedule) -> tuple[Tally, Failure | None]:
    machine.start_over(schedule)
    freely, started_at = _Stress(machine, schedule), time.monotonic()
    try:
        freely.run()
        if freely.failure is None:
            machine.rest.check(machine.ledgers)
    except Found as error:
        freely.failure = Failure(error, freely.done(), [], [], [])
    tally = Tally(seconds=time.monotonic() - started_at)
    for driver in freely.drivers:
        tally.operations += driver.tally.operations
        tally.refusals += driver.tally.refusals
    machine.shelf.clear()
    return tally, freely.failure
