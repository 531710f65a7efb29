"""The cooperative scheduler: which unit is next is drawn from a seed, written down, and can be played again."""

import gc
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

from tests.interleaving.canaries import Found, Unexpected
from tests.interleaving.lanes import Lane, LoopLane, Steps, Turns
from tests.interleaving.ledger import Ledger
from tests.interleaving.rest import Rest
from tests.interleaving.unit import KINDS, Unit

LANES = 3
UNITS_AT_ONCE = 12


@dataclass
class Schedule:
    """``order`` names the unit of each step; ``None`` lets it be drawn. Units in ``without`` do not take part."""

    seed: str
    operations: int
    order: list[int] | None = None
    without: frozenset[int] = frozenset()


@dataclass
class Failure:
    error: Found
    step: int
    order: list[int]
    units: list[int]  # those that took part
    trace: list[str]

    @property
    def kind(self) -> type[Found]:
        return type(self.error)


@dataclass
class Tally:
    operations: Counter = field(default_factory=Counter)  # by kind
    refusals: Counter = field(default_factory=Counter)  # by the error's name
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.operations.total()

    def add(self, other: "Tally") -> None:
        self.operations += other.operations
        self.refusals += other.refusals
        self.seconds += other.seconds


class Machine:
    """One stack, its databases at rest, and the lanes; ``play`` runs one schedule on freshly seeded rows."""

    def __init__(self, stack: Any, rest: Rest, tenants: int):
        self.stack, self.rest = stack, rest
        self.count, self.tenants = tenants, tuple(range(tenants))
        self.lanes: list[Any] = [Lane(number) for number in range(LANES)] + [LoopLane(LANES)]
        self.has_jobs = True
        self.emphasis = 1.0  # how much more often than usual something foreign is tried

    def start_over(self, schedule: Schedule) -> None:
        """On freshly seeded rows."""
        self.schedule, self.tally = schedule, Tally()
        self.ledgers = [Ledger.seeded(tenant, self.stack.is_guarded) for tenant in self.tenants]
        self.shelf: list = []  # what units leave for others: (offence, tenant, thing)
        self.lent: list = []  # what is open: (offence, tenant, lane, thing)
        self.litter: list = []  # generators that nobody has closed
        self.held: dict[int, int] = {}  # tenant -> the unit that has it to itself
        self.jobs: deque[tuple[int, str]] = deque()
        self.trace: list[str] = []
        self.serial = self.step = 0
        self.active: dict[int, tuple[Unit, Any]] = {}
        self.order: list[int] = []
        self.units: list[int] = []
        self.ended: set[int] = set()
        self.rest.put_back()
        self.stack.forget_jobs()
        self.log_in()

    def play(self, schedule: Schedule) -> tuple[Tally, Failure | None]:
        self.start_over(schedule)
        started_at, failure = time.monotonic(), None
        try:
            self._run()
            self._finish()
            self.rest.check(self.ledgers)
        except Found as error:
            failure = Failure(error, self.step, list(self.order), list(self.units), list(self.trace))
        finally:
            self._let_go()
        self.tally.seconds = time.monotonic() - started_at
        return self.tally, failure

    def log_in(self) -> None:
        """Access tokens live for ten minutes."""
        for tenant in self.tenants:
            self.lanes[0].run(lambda tenant=tenant: self._log_in(tenant))

    def _log_in(self, tenant: int) -> None:
        from django.contrib.auth import get_user_model

        with self.stack.bind(tenant):
            self.stack.log_in(tenant, get_user_model().objects.get(username="owner"))

    def _run(self) -> None:
        random_order = random.Random(f"{self.schedule.seed}/order")
        given = None if self.schedule.order is None else iter(self.schedule.order)
        while self.tally.total < self.schedule.operations:
            if given is None:
                number = self._draw(random_order)
            elif (number := next(given, None)) is None:
                return
            self._step(number)

    def _draw(self, random_order: random.Random) -> int:
        while len(self.active) < UNITS_AT_ONCE:
            self._start(max(self.units, default=-1) + 1)
        return random_order.choice([number for number in self.active if self._may_run(number)])

    def _start(self, number: int) -> None:
        chance = random.Random(f"{self.schedule.seed}/{number}")
        kind = chance.choices(list(KINDS), [each.weight for each in KINDS.values()])[0]
        lane = self.lanes[LANES if KINDS[kind].is_async else chance.randrange(LANES)]
        unit = Unit(self, number, kind, lane.number, chance)
        run = KINDS[kind].run
        steps = Turns(lane, lambda turns: run(unit, turns)) if KINDS[kind].is_async else Steps(lane, run(unit))
        self.active[number] = unit, steps
        self.units.append(number)

    def _may_run(self, number: int) -> bool:
        unit = self.active[number][0]
        return not any(self.held.get(tenant, number) != number for tenant in unit.tenants)

    def _step(self, number: int) -> None:
        if number in self.schedule.without or number in self.ended:
            return
        if number not in self.active:
            self._start(number)
        if not self._may_run(number):
            return
        self.step += 1
        self.order.append(number)
        unit, steps = self.active[number]
        try:
            is_going_on = steps.step()
        except Found:
            raise
        except Exception as error:
            if self.stack.is_guarded:
                raise Unexpected(f"Unit {number} ({unit.kind}): {type(error).__name__}: {error}") from error
            is_going_on = False
        if not is_going_on:
            self._end(number)

    def _end(self, number: int) -> None:
        del self.active[number]
        self.ended.add(number)
        for tenant in [tenant for tenant, holder in self.held.items() if holder == number]:
            del self.held[tenant]

    def _finish(self) -> None:
        """All units come to their end, those that have something to themselves first."""
        while self.active:
            number = next(number for number in self.active if self._may_run(number))
            self._step(number)

    def _let_go(self) -> None:
        self.active.clear()
        self.shelf.clear()
        self.litter.clear()
        self.lent.clear()
        gc.collect()
        for lane in self.lanes:
            lane.run(connections.close_all)  # where one has failed, transactions may be open, and lock what is put back
            lane.run(self.stack.let_go)

    def note(self, unit: Unit, what: str) -> None:
        self.trace.append(
            f"step {self.step}: unit {unit.number} ({unit.kind}, lane {unit.lane}) in {unit.here}: {what}"
        )

    def close(self) -> None:
        for lane in self.lanes:
            lane.end()
