"""
Whether time tells why a log-in was refused: `python -m tests.routes.log_in_timing --engine mysql --rounds 60`.

At each door, in each round, a wrong password of a known user is tried, and the same 5 % later, and everything else
that is refused alike, in random order; each several times, of which the fastest counts. Exits with 1 when one of these
differs from the wrong password by more than chance, and when the planted delay is not found. And whether time tells
in whose name a new password may be had.

Hashes are light, unless told otherwise: as many and of the same kind, each of half a millisecond. A deployed one takes
170 ms, of which chance alone is several per cent, and all else that could differ is one per cent: it would hide there.
"""

import argparse
import contextlib
import logging
import random
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import django

from tests import environment
from tests.routes.timing import ATTEMPTS, CLOCKS, DELAY, ERROR_RATE, Times, judge

FASTEST_OF = 3
USUAL, DELAYED = "a wrong password", "delayed"


class Attempt(NamedTuple):
    slug: str
    username: str
    password: str = "not the right password"


# The names of each column are as long as each other, and so are the passwords.
FAILED = {
    USUAL: Attempt("acme", "alice"),
    "an unknown user": Attempt("acme", "alicf"),
    "an unknown tenant": Attempt("acmf", "alice"),
    "a disabled user": Attempt("acme", "diana"),
    "a disabled user's own password": Attempt("acme", "diana", "correct horse battery staple"),
    "a suspended tenant": Attempt("globex", "alice"),
    "an unknown user of a suspended tenant": Attempt("globex", "alicf"),
}
REFUSED = {name: FAILED[name] for name in (USUAL, "an unknown user", "an unknown tenant", "a disabled user")}
RESETS = {"a known user": FAILED[USUAL]} | {name: REFUSED[name] for name in list(REFUSED)[1:]}
# door, attempts, and the status that all of them are answered with
GROUPS = {
    "POST /api/v1/token/": ("api", FAILED, 401),
    "POST /t/<slug>/login/": ("page", FAILED, 200),
    "POST /api/v1/token/, too many tries": ("api", REFUSED, 429),
    "POST /t/<slug>/login/, too many tries": ("page", REFUSED, 429),
    "POST /t/<slug>/password/reset/": ("reset", RESETS, 200),
}


def examine(take, rounds: int, error_rate: float) -> tuple[list[str], list[str]]:
    """
    The lines and the faults of a group. ``take`` gives the times of each of its attempts; what too few rounds could
    not tell is measured anew, three times as often, and again.
    """
    lines: list[str] = []
    faults: list[str] = []
    for attempt in range(ATTEMPTS):
        judged = [judge(times, error_rate / ATTEMPTS) for times in take(rounds * 3**attempt)]
        lines, faults = [line for line, *_ in judged], [fault for _, fault, _ in judged if fault]
        if all(is_fine for *_, is_fine in judged):
            break
    return lines, faults


def as_times(group: str, taken: dict[str, list[int]]) -> list[Times]:
    """Each attempt of the group against the first."""
    usual, *others = [name for name in taken if name != DELAYED]
    return [
        Times(f"{group}: {name}", taken[name], taken[usual], taken[DELAYED], compared=(name, usual)) for name in others
    ]


def main(arguments: list[str] | None = None) -> int:
    summary = __doc__.split("\n\n")[0].strip()
    parser = argparse.ArgumentParser(prog="python -m tests.routes.log_in_timing", description=summary)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall",
        help="cpu: on a busy machine; it sees nothing of a database server, nor the wait that refusals after too many "
        "tries and resets are given, which are left out",
    )  # fmt: skip
    parser.add_argument("--hashes", choices=["light", "deployed"], default="light")
    parser.add_argument("--seed", type=int, default=1, help="of the order within the rounds")
    options = parser.parse_args(arguments)
    django.setup()
    from tenants.accounts.hashers import BoundedArgon2
    from tests.routes.measuring import open_installation
    from tests.routes.measuring_log_ins import Measuring

    if options.hashes == "light":
        BoundedArgon2.time_cost, BoundedArgon2.memory_cost = 1, 1024
    print(f"{options.engine}: how much longer each takes than the first of its door; the same with {DELAY:.0%} planted")
    groups = [name for name, (_, attempts, _) in GROUPS.items() if options.clock == "wall" or attempts is FAILED]
    error_rate = ERROR_RATE / (2 * sum(len(GROUPS[name][1]) - 1 for name in groups))
    order, faults = random.Random(options.seed), []
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=environment.HOME)))
        measuring = Measuring(stack.enter_context(open_installation(options.engine, home)))
        for name in groups:

            def take(rounds: int, name=name) -> list[Times]:
                taken = measuring.take(*GROUPS[name], rounds, order, CLOCKS[options.clock], FASTEST_OF)
                return as_times(name, taken)

            lines, found = examine(take, options.rounds, error_rate)
            print("\n".join(lines), flush=True)
            faults += found
    print("\n".join([*faults, f"{len(groups)} doors, {len(faults)} faults"]))
    return 1 if faults else 0


if __name__ == "__main__":
    logging.disable()  # a line for each refusal, to a terminal
    sys.exit(main())
