"""A failing schedule made short: first without the units that it does not need, then without their last steps."""

import time
from dataclasses import replace
from typing import Any

from tests.interleaving.machine import Failure, Machine, Schedule

SECONDS = 60


def shrink(machine: Machine, schedule: Schedule, failure: Failure) -> Failure:
    """The failure of the shortest schedule found in a minute that fails in the same way."""
    ends_at = time.monotonic() + SECONDS
    tried = replace(schedule, order=failure.order)

    def fails(candidate: Schedule) -> Failure | None:
        if time.monotonic() > ends_at:
            return None
        _, found = machine.play(candidate)
        return found if found is not None and str(found.error)[-40:] == str(failure.error)[-40:] else None

    best = fails(tried)
    if best is None:
        return failure  # of another cause than the order of steps
    size = max(1, len(best.units) // 2)
    while size:
        for some in _parts(best.units, size):
            if len(some) < len(best.units):
                candidate = replace(tried, order=best.order, without=tried.without | set(some))
                if found := fails(candidate):
                    best, tried = found, candidate
        size //= 2
    return _shorten(tried, best, fails)


def _shorten(tried: Schedule, best: Failure, fails: Any) -> Failure:
    size = max(1, len(best.order) // 2)
    while size:
        for start in range(0, len(best.order), size):
            order = best.order[:start] + best.order[start + size :]
            if found := fails(replace(tried, order=order)):
                best = found
        size //= 2
    return best


def _parts(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]
