"""
Runs the interleaving machine on an installation of its own, in a temporary directory.

    python -m tests.interleaving --engine mysql --operations 25000 --seed 7
    python -m tests.interleaving --replay 7/3       one round again, by the seed that was printed

Exits 1 with the seed, the step and the shortest schedule that was found, if a canary of another tenant is read or lies
at rest, or anything else is not as it should be.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.interleaving import installation


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--stack", choices=list(installation.SETTINGS), default="bulkhead")
    parser.add_argument("--operations", type=int, default=25_000)
    parser.add_argument("--round", type=int, default=2_500, help="operations between two looks at the data at rest")
    parser.add_argument("--stress", type=float, default=0.2, help="how much of it runs freely, in threads and tasks")
    parser.add_argument("--foreign", type=float, default=1, help="how much more often what must be refused is tried")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--replay", metavar="SEED", help="one round of the scheduler, exactly as it was")
    parser.add_argument("--state", type=Path, help="a file that says how far this came; the next run goes on there")
    parser.add_argument("--home", type=Path, help="an installation that another process has made")
    parser.add_argument("--no-shrinking", action="store_true")
    options = parser.parse_args()
    with ExitStack() as servers:
        if options.home:
            stack, rest = installation.existing(options.home)
        else:
            stack, rest = servers.enter_context(installation.new(options.engine, options.stack))
        from tests.interleaving.running import run

        return run(stack, rest, options)


if __name__ == "__main__":
    sys.exit(main())
