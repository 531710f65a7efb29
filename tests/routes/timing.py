"""
Whether time tells a foreign id from one that nobody has: `python -m tests.routes.timing --engine mysql --rounds 60`.

In each round a request is made in three ways, in random order: with an id of another tenant's, with one that nobody
has, and with the foreign one again, 5 % later; each five times, of which the fastest counts. Exits with 1 when the
first two differ by more than chance, and when the planted delay is not found: too coarse a measurement says nothing.
"""

import argparse
import contextlib
import logging
import math
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist, median

import django

from tests import environment

DELAY = 0.05
ERROR_RATE = 0.01  # of a whole run, shared among all its intervals
ATTEMPTS = 3
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}


@dataclass
class Times:
    """Of one request, in nanoseconds: one of each list from each round."""

    name: str
    foreign: list[int]
    missing: list[int]
    delayed: list[int]
    compared: tuple[str, str] = ("a foreign id", "a missing one")

    def difference(self, times: list[int], error_rate: float) -> tuple[float, float, float]:
        """How much longer than for a missing id, and the interval it lies in, as parts of a missing id's time."""
        found = interval([a - b for a, b in zip(times, self.missing, strict=True)], error_rate)
        return tuple(value / median(self.missing) for value in found)


def interval(values: list[int], error_rate: float) -> tuple[float, float, float]:
    """
    The median, and the interval that holds the true one but for ``error_rate``. It is read off the sorted values, so
    that it is sound for every distribution: half of the values are expected below the true median, as coins fall.
    """
    ordered = sorted(values)
    reach = NormalDist().inv_cdf(1 - error_rate / 2) * math.sqrt(len(ordered)) / 2
    below, above = math.floor(len(ordered) / 2 - reach), math.ceil(len(ordered) / 2 + reach)
    if below < 1 or above >= len(ordered):
        raise ValueError(f"{len(ordered)} rounds are too few to say anything.")
    return median(ordered), ordered[below - 1], ordered[above]


def judge(times: Times, error_rate: float) -> tuple[str, str, bool]:
    """What was found, in a line; what is wrong with it, if anything; and whether the measurement was fine enough."""
    alike, planted = (times.difference(each, error_rate) for each in (times.foreign, times.delayed))
    as_text = ["{:+6.2%} [{:+6.2%}, {:+6.2%}]".format(*each) for each in (alike, planted)]
    line = f"{median(times.missing) / 1e6:7.2f} ms  {as_text[0]}  {as_text[1]}  {len(times.missing):5}  {times.name}"
    fault = ""
    if not alike[1] <= 0 <= alike[2]:
        fault = f"{times.name}: {' is told from '.join(times.compared)} by its time, {as_text[0]}."
    elif planted[1] <= 0:
        fault = f"{times.name}: the planted {DELAY:.0%} was not found, {as_text[1]}. The machine is too busy."
    return line, fault, planted[1] > 0


def examine(take, rounds: int, error_rate: float) -> tuple[str, str]:
    """What too few rounds could not tell is measured anew, three times as often, and again."""
    line = fault = ""
    for attempt in range(ATTEMPTS):
        line, fault, is_fine = judge(take(rounds * 3**attempt), error_rate / ATTEMPTS)
        if is_fine:
            break
    return line, fault


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.routes.timing", description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine; it sees nothing of a database server"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the order within the rounds")
    parser.add_argument("--skip", type=int, default=0, help="so many requests that an interrupted run has judged")
    options = parser.parse_args(arguments)
    django.setup()
    from tests.routes.measuring import all_requests, measure, open_installation

    print(f"{options.engine}: how much longer a foreign id takes than a missing one; the same with {DELAY:.0%} planted")
    requests, order, faults = all_requests(), random.Random(options.seed), []
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=environment.HOME)))
        world = stack.enter_context(open_installation(options.engine, home))
        for request in requests[options.skip :]:
            take = partial(measure, world, request, order=order, clock=CLOCKS[options.clock])
            line, fault = examine(take, options.rounds, error_rate(requests))
            print(line, flush=True)
            faults += [fault] if fault else []
    print("\n".join([*faults, f"{len(requests) - options.skip} requests, {len(faults)} faults"]))
    return 1 if faults else 0


def error_rate(requests: list) -> float:
    """Of one interval: each request has two."""
    return ERROR_RATE / (2 * len(requests))


if __name__ == "__main__":
    logging.disable()  # a line for each refusal, to a terminal, would be most of the time
    sys.exit(main())
