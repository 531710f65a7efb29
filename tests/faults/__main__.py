"""
Kills a process of a real installation at random moments, again and again, while members ask for scans; and counts
what became of these. The installation is temporary; leases, rounds over all tenants and the wait for a lost job are 15
times as short as in production.

    python -m tests.faults --engine mysql --kills 1000 --state var/faults/mysql.json
    python -m tests.faults --seed 7/12        from the round whose failure was printed

With --state what was stopped goes on after its last whole round. Exits 1 with the seed and what is wrong.
"""

import argparse
import json
import secrets
import shutil
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import django

from tests import environment  # before the settings are read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="mysql")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", default="", help="drawn unless given")
    parser.add_argument("--state", type=Path, help="a file that says how far this came")
    options = parser.parse_args()
    django.setup()
    from tests.faults.kills import Chaos, play

    progress, save = _progress(options.seed, options.state)
    print(f"{options.engine}: {options.kills} kills, {progress.kills} done before; seed {progress.seed}", flush=True)
    with ExitStack() as stack:
        return play(Chaos(*_start(stack, options.engine)), progress, options.kills, save)


def _progress(seed: str, state: Path | None):
    from tests.faults.kills import Progress

    name, _, rounds = seed.partition("/")
    progress = Progress(name or secrets.token_hex(3), int(rounds or 0))
    if state is not None and state.exists():
        kept = json.loads(state.read_text())
        if seed in ("", kept["seed"]):
            counters = {key: Counter(value) for key, value in kept.items() if isinstance(value, dict)}
            progress = Progress(**kept | counters)

    def save(progress: Progress) -> None:
        if state is not None:
            state.parent.mkdir(parents=True, exist_ok=True)
            written = state.with_suffix(".new")
            written.write_text(json.dumps(vars(progress)))
            written.replace(state)

    return progress, save


def _start(stack: ExitStack, engine: str):
    from tenants.embedded import MariaDB, Redis
    from tenants.services import set_limits
    from tests.faults.client import Client
    from tests.faults.processes import Processes
    from tests.faults.target import SlowTarget
    from tests.installation import MySQLInstallation, SQLiteInstallation

    home = environment.HOME / engine
    home.mkdir(mode=0o700)
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    redis = stack.enter_context(Redis(environment.HOME))
    if engine == "mysql":
        installation = MySQLInstallation(home, stack.enter_context(MariaDB(home)))
    else:
        installation = SQLiteInstallation(home)
    for slug in ("acme", "globex"):
        set_limits(slug=slug, changes={"scans_an_hour": 1_000_000})
    targets = [stack.enter_context(SlowTarget()) for _ in range(2)]
    processes = stack.enter_context(Processes(installation, redis))
    members = zip(("acme", "globex"), ("alice", "mallory"), targets, strict=True)
    clients = [Client(slug, username, processes.port, target.port) for slug, username, target in members]
    return processes, clients, targets


if __name__ == "__main__":
    sys.exit(main())
