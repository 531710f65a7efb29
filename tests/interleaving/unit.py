"""A unit of work: what is bound in it, what it may do, and the kinds of units that there are."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import cache
from typing import Any, NamedTuple

from django.db import connections

from tests.interleaving.canaries import ForeignCanary, Found, NotRefused, Unexpected, canary, require_own


class Operation(NamedTuple):
    name: str
    kind: str  # orm, sql, http, job, foreign
    weight: float
    act: Callable[["Unit"], Any]  # a generator function where it takes several steps


class Kind(NamedTuple):
    run: Callable[..., Any]
    weight: float
    is_async: bool


OPERATIONS: dict[str, Operation] = {}  # of bound units
KINDS: dict[str, Kind] = {}


def operation(kind: str, weight: float = 1.0) -> Callable:
    def register(act: Callable) -> Callable:
        name = act.__name__.replace("_", " ")
        OPERATIONS[name] = Operation(name, kind, weight, act)
        return act

    return register


def unit_kind(weight: float, is_async: bool = False) -> Callable:
    def register(run: Callable) -> Callable:
        KINDS[run.__name__.replace("_", " ")] = Kind(run, weight, is_async)
        return run

    return register


@cache
def _weighed(emphasis: float) -> tuple[list[Operation], list[float]]:
    operations = list(OPERATIONS.values())
    return operations, [each.weight * (emphasis if each.kind == "foreign" else 1) for each in operations]


class Unit:
    """
    ``tenant`` is what it has bound. All that it draws comes from ``chance``, so that another order of steps changes
    nothing in what it does.
    """

    def __init__(self, machine: Any, number: int, kind: str, lane: int, chance: random.Random):
        self.machine, self.number, self.kind, self.lane, self.chance = machine, number, kind, lane, chance
        self.stack = machine.stack
        self.tenant: int | None = None
        self.tenants: tuple[int, ...] = ()  # those of an asynchronous unit; else the bound one
        self.has_left_its_binding = False

    @property
    def here(self) -> str:
        return "nothing" if self.tenant is None else f"tenant {self.tenant}"

    @property
    def ledger(self) -> Any:
        return self.machine.ledgers[self.tenant]

    @contextmanager
    def bound(self, tenant: int | None = None) -> Iterator[int]:
        """A tenant that nobody has to itself, drawn if none is given."""
        tenant = self.free_tenant() if tenant is None else tenant
        with self.stack.bind(tenant):
            self.is_now(tenant)
            self.require_bound()
            try:
                yield tenant
                self.require_bound()
            finally:
                self.is_now(None)
        if self.stack.is_guarded and (bound := self.stack.bound()) not in (None, "control"):
            raise Unexpected(f"{bound} is bound after the block of {tenant} has ended")

    def is_now(self, tenant: int | None) -> None:
        self.tenant = tenant
        self.tenants = () if tenant is None else (tenant,)

    def require_bound(self) -> None:
        if self.stack.is_guarded and (bound := self.stack.bound()) != self.tenant:
            raise ForeignCanary(f"{bound} is bound in a unit of {self.here}")

    def free_tenant(self, but: int | None = None) -> int:
        taken = {*self.machine.held, but}
        return self.chance.choice([tenant for tenant in self.machine.tenants if tenant not in taken])

    @contextmanager
    def hold(self) -> Iterator[None]:
        """
        The bound tenant to itself: what a unit keeps open across steps, another one in the same thread would close.
        """
        assert self.tenant is not None
        tenant = self.tenant
        self.machine.held[tenant] = self.number
        try:
            yield
        finally:
            self.machine.held.pop(tenant, None)

    @contextmanager
    def open_across_steps(self) -> Iterator[None]:
        """
        As ``hold``, for what reads outside a transaction: a thread keeps few connections, and this one may be closed
        for another unit's. That is said by an error.
        """
        with self.hold():
            wrapper = connections["default"]
            try:
                yield
            except Exception as error:
                if isinstance(error, Found) or not getattr(wrapper, "retired", False):
                    raise
                self.refused(error)

    def mark(self) -> str:
        """A canary that nobody has written yet."""
        assert self.tenant is not None
        return self.mark_of(self.tenant)

    def mark_of(self, tenant: int) -> str:
        self.machine.serial += 1
        return canary(tenant, self.machine.serial)

    def own(self, value: Any, what: str) -> Any:
        return require_own(self.tenant, value, f"{what} in unit {self.number}")

    def request(self, tenant: int, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """
        A request that comes in between two steps of this unit: its thread is the same, its context its own; unless the
        unit has left its binding to the thread.
        """
        context = copy_context() if self.has_left_its_binding else Context()
        return context.run(self.stack.ask, self.lane, tenant, method, path, body, **options)

    def collect(self) -> None:
        """What others have left to the collector."""
        while self.machine.litter:
            thing = self.machine.litter.pop()
            if hasattr(thing, "streaming_content"):  # Django's test client makes it a cycle
                thing._resource_closers.clear()
                thing._iterator = None
            elif self.chance.random() < 0.5:
                try:
                    thing.close()
                except self.stack.refusals as error:
                    self.refused(error)
            del thing
            self.require_bound()

    def count(self, kind: str, what: str) -> None:
        self.machine.tally.operations[kind] += 1
        self.machine.note(self, what)

    def refused(self, error: Exception) -> None:
        self.machine.tally.refusals[type(error).__name__] += 1

    def _refusal(self, error: Exception) -> Exception:
        """What is closed after a refusal may be closed already, and say that instead. Raises what is none."""
        for each in (error, error.__context__):
            if isinstance(each, self.stack.refusals):
                return each
        raise error

    def must_be_refused(self, what: str, act: Callable[[], Any]) -> None:
        """A named error is right. What comes instead must at least be no foreign row."""
        self.count("foreign", what)
        try:
            value = act()
        except Exception as error:
            self.refused(self._refusal(error))
            return
        self.own(value, what)
        if self.stack.is_guarded:
            raise NotRefused(f"{what}: unit {self.number} in {self.here} was given {str(value)[:200]!r}")

    def work(self, operations: int) -> Iterator[None]:
        """So many operations, drawn, in what is bound."""
        for _ in range(operations):
            yield from self.do(self.draw())
            yield

    def draw(self) -> Operation:
        return self.chance.choices(*_weighed(self.machine.emphasis))[0]

    def do(self, chosen: Operation) -> Iterator[None]:
        if chosen.kind != "foreign":  # which counts for itself
            self.count(chosen.kind, chosen.name)
        steps = chosen.act(self)
        if steps is not None:
            yield from steps
        self.require_bound()
