"""
The fault suite: each fault of the table in docs/reference/faults.md on a real MariaDB and Redis, and random kills.

    python -m tools.faults [--engine mysql]

KILLS (50) says how many processes are killed at random moments, SEED=7 which, and SEED=7/12 begins with that round.
What was stopped goes on where it was, from var/faults/; a larger KILLS goes on from what is done.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def succeeds(*arguments: object, **environment: str) -> bool:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode == 0  # noqa: S603


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="mysql", help="of the random kills")
    options = parser.parse_args(arguments)
    kills, seed = os.environ.get("KILLS") or "50", os.environ.get("SEED") or ""
    aim = ["--engine", options.engine, "--kills", kills]
    aim += ["--seed", seed] if "/" in seed else ["--state", ROOT / "var" / "faults" / f"{options.engine}.json"]
    aim += ["--seed", seed] if seed and "/" not in seed else []
    are_as_they_should = succeeds("tests.faults", *aim)
    # Each test waits for most of its time: two of them, each with processes and servers of its own, share the machine.
    return succeeds("pytest", "-q", "-n", "2", "tests/faults", FAULTS="all") and are_as_they_should


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
