"""Rounds of the machine, one after the other: the progress, the state to go on from, and what is said at the end."""

import json
import platform
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import django

from tests.interleaving import (  # noqa: F401  importing them registers what they hold
    async_units,
    ending_units,
    http_operations,
    job_operations,
    offence_operations,
    orm_operations,
    sql_operations,
    units,
)
from tests.interleaving.machine import Machine, Schedule, Tally
from tests.interleaving.shrinking import shrink
from tests.interleaving.stress import stress


def run(stack: Any, rest: Any, options: Any) -> int:
    machine = Machine(stack, rest, tenants=len(rest.kept))
    machine.emphasis = options.foreign
    state = _State(options)
    sys.unraisablehook = _at_collection
    try:
        while state.tally.total < options.operations and not (options.replay and state.round):
            is_stress = _is_stress(state.round, options.stress) and not options.replay
            seed = options.replay or f"{options.seed}/{state.round}"
            schedule = Schedule(seed, min(options.round, options.operations))
            tally, failure = stress(machine, schedule) if is_stress else machine.play(schedule)
            if failure is not None:
                say(f"FAILED after {state.tally.total + tally.total} operations: {failure.kind.__name__}")
                if not is_stress and not options.no_shrinking:
                    failure = shrink(machine, schedule, failure)
                say(_told(failure, schedule.seed))
                return 1
            state.add(tally)
        say(_last_line(state, options, rest))
        return 0
    finally:
        machine.close()


def _is_stress(number: int, share: float) -> bool:
    """Spread evenly: with a fifth, every fifth round."""
    return int((number + 1) * share) > int(number * share)


def _at_collection(unraisable: Any) -> None:
    """Generators that nobody closes say at their end that their binding, or their connection, was gone: to nobody."""
    if type(unraisable.exc_value).__name__ not in ("WrongTenantError", "ProgrammingError", "OperationalError"):
        sys.__unraisablehook__(unraisable)


class _State:
    """What is done, in a file if there is one."""

    def __init__(self, options: Any):
        self.path, self.options, self.round, self.tally = options.state, options, 0, Tally()
        self.started_at, self.done_before = time.monotonic(), 0
        if self.path and self.path.exists():
            kept = json.loads(self.path.read_text())
            if kept["seed"] == options.seed:
                self.round = kept["round"]
                self.tally.operations.update(kept["operations"])
                self.tally.refusals.update(kept["refusals"])
                self.tally.seconds = kept["seconds"]
                self.done_before = self.tally.total
                say(f"Going on after {self.done_before} operations ({self.path})")

    def add(self, tally: Tally) -> None:
        self.tally.add(tally)
        self.round += 1
        if self.path:
            kept = {
                "seed": self.options.seed,
                "round": self.round,
                "operations": self.tally.operations,
                "refusals": self.tally.refusals,
                "seconds": self.tally.seconds,
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(".new")
            draft.write_text(json.dumps(kept))
            draft.replace(self.path)
        done, wanted = self.tally.total, self.options.operations
        speed = (done - self.done_before) / (time.monotonic() - self.started_at)
        if sys.stdout.isatty() or self.round % 20 == 0:
            say(f"{done:>10} of {wanted} operations, {speed:.0f} a second, {max(0, wanted - done) / speed:.0f} s to go")


def _told(failure: Any, seed: str) -> str:
    cause = failure.error.__cause__
    lines = [f"  {line}" for line in failure.trace[-60:]]
    lines.append(f"Steps of units: {failure.order[-300:]}")
    if cause is not None:
        lines += [line.rstrip() for line in traceback.format_tb(cause.__traceback__)[-6:]]
    return "\n".join([*lines, f"{failure.kind.__name__}: {failure.error}", f"Seed {seed}, step {failure.step}."])


def _last_line(state: _State, options: Any, rest: Any) -> str:
    tally = state.tally
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.operations.most_common())
    refusals = ", ".join(f"{count} {name}" for name, count in tally.refusals.most_common()) or "none"
    versions = f"Django {django.__version__}, Python {platform.python_version()}, {rest.version()}"
    return (
        f"{tally.total} operations ({kinds}) in {state.round} rounds and {tally.seconds:.0f} s; "
        f"0 foreign canaries read or at rest; refusals: {refusals}; seed {options.seed}; {versions}; "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
