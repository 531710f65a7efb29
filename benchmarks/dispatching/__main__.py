"""
How soon a scan's job starts after it was asked for; who waits for whom; and jobs a second.

    python -m benchmarks.dispatching [--engine sqlite|mysql] [--tenants 1000] [--rounds 20] [--sweeps 5] [PART ...]

Ten of the tenants are active, the others have nothing to do. In each round each of the ten asks once, at a moment drawn
from two seconds, for the product, for RQ's queue itself, and for dispatchers that sweep over all tenants and sleep for
a second. All run a job in a process of its own. Parts: latency, fairness, throughput.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path

import django
import MySQLdb

from benchmarks.isolation.__main__ import Installation
from tenants.embedded import MariaDB, Redis

ACTIVE = 10
PARTS = ("latency", "fairness", "throughput")


class Dispatching(Installation):
    prepare = "benchmarks.dispatching.prepare"


def main(engine: str, tenants: int, rounds: int, sweeps: int, parts: list[str]) -> None:
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        server = stack.enter_context(MariaDB(scratch / "mariadb")) if engine == "mysql" else None
        if server is not None:  # each of the sweeping ones keeps a connection to every tenant
            login = {"host": server.host, "port": server.port, "user": server.user, "passwd": server.password}
            with closing(MySQLdb.connect(**login)) as connection, connection.cursor() as cursor:
                cursor.execute("SET GLOBAL max_connections = 4000")
        redis = stack.enter_context(Redis(scratch / "redis"))
        made = Dispatching(scratch / "home", server, "--tenants", tenants, "--active", ACTIVE)
        print(
            f"{engine}, {tenants:,} tenants, {ACTIVE} active, {rounds} rounds, Django {django.__version__}, "
            f"Python {platform.python_version()}, {date.today()}\n",
            flush=True,
        )
        environment = made.environment | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.isolation.settings",
            "REDIS_URL": redis.url,
            "BULKHEAD_ALLOW_LOOPBACK_TARGETS": "true",
            "BENCHMARK_STARTS": str(scratch / "starts"),
        }
        measure = [sys.executable, "-m", "benchmarks.dispatching.measure", str(rounds), str(sweeps), str(ACTIVE)]
        subprocess.run([*measure, *parts], env=environment, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sweeps", type=int, default=5, help="rounds in which the sweeping dispatchers take part")
    parser.add_argument("parts", nargs="*", metavar="PART")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there are no parts {', '.join(unknown)}")
    if options.rounds < 2 or options.sweeps == 1:
        parser.error("of one round there is no spread")
    main(options.engine, options.tenants, options.rounds, options.sweeps, options.parts or list(PARTS))
