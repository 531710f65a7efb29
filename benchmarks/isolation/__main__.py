"""
What isolation costs: the product against Django as it comes, on the same databases, in two processes that take turns.

    python -m benchmarks.isolation [--engine sqlite|mysql] [--rounds 40] [--credentials] [--clock wall|cpu]

Each line is the median of the paired ratios with their quartiles. The first column of ratios is the noise of this
machine: plain Django against plain Django in a third process.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path

import django
import MySQLdb

from tenants.embedded import MariaDB

ROOT = Path(__file__).resolve().parents[2]
# operation, argument, what it is, what we want of the ratio
AGAINST_PLAIN = [
    ("get", 150, "get(pk)", 1.03),
    ("list", 30, "list of 20", 1.03),
    ("bulk_create", 8, "bulk_create of 100", 1.03),
    ("load", 4, "load of 1,000", 1.03),
    ("switch", 8, "get(pk), another of 8 tenants each time", 1.2),
    ("miss", 60, "get(pk), another of 1,000 tenants, connection and all", 1.1),
]
VERIFICATIONS = 500
REGISTERED = (1, 100, 10_000)
WITH_DATABASE = 1_000


class Installation:
    """A home that the module ``prepare`` has made, by the product, in a process of its own."""

    clock = "wall"
    prepare = "benchmarks.isolation.prepare"

    def __init__(self, home: Path, server: MariaDB | None, *arguments: object):
        self.environment = {
            name: value for name, value in os.environ.items() if name.startswith(("PATH", "PYTHON", "LD_"))
        } | {"BULKHEAD_HOME": str(home), "PYTHONPATH": str(ROOT), "BULKHEAD_REQUESTS_PER_MINUTE": "0"}
        argv = [str(argument) for argument in arguments]
        if server is not None:
            control = f"control_{home.name}"
            login = {"host": server.host, "port": server.port, "user": server.user, "passwd": server.password}
            with closing(MySQLdb.connect(**login)) as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {control} COLLATE utf8mb4_unicode_ci")
            login = {"host": server.host, "port": server.port, "admin_user": server.user}
            argv += ["--server", json.dumps(login | {"admin_password": str(server.password)})]
            address = f"{server.user}:{server.password}@{server.host}:{server.port}"
            self.environment["DATABASE_URL"] = f"mysql://{address}/{control}"
        subprocess.run(
            [sys.executable, "-m", self.prepare, *argv],
            env=self.environment | {"DJANGO_SETTINGS_MODULE": "benchmarks.isolation.settings"},
            check=True,
        )

    def start(self, stack: ExitStack, settings: str) -> "Callable[[str, int], float]":
        """A process under these settings; calling it runs an operation there."""
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.isolation.worker"],
                env=self.environment
                | {"DJANGO_SETTINGS_MODULE": f"benchmarks.isolation.{settings}", "BENCHMARK_CLOCK": self.clock},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.stdin.close)

        def run(operation: str, argument: int) -> float:
            process.stdin.write(json.dumps([operation, argument]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return run


def compare(ours, theirs, operation, argument, rounds):
    """Quartiles of the paired ratios, each pair in the other order than the one before; two rounds to warm up."""
    ratios, seconds = [], []
    for number in range(rounds + 2):
        pair = {}
        for which in (ours, theirs) if number % 2 else (theirs, ours):
            pair[which] = which(operation, argument)
        ratios.append(pair[ours] / pair[theirs])
        seconds.append(pair[theirs])
    return statistics.quantiles(ratios[2:], n=4), statistics.median(seconds[2:])


def side_by_side(worker, ours, theirs, argument, rounds):
    """Two operations of one process."""
    return compare(lambda *_: worker(ours, argument), lambda *_: worker(theirs, argument), None, argument, rounds)


def say(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def spread(quartiles):
    low, median, high = quartiles
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def against_plain(installation, rounds):
    with ExitStack() as stack:
        product, plain, again = (installation.start(stack, f"{name}settings") for name in ("", "plain_", "plain_"))
        for operation, argument, what, wanted in AGAINST_PLAIN:
            ratio, seconds = compare(product, plain, operation, argument, rounds)
            noise, _ = compare(again, plain, operation, argument, max(8, rounds // 2))
            say(what, spread(ratio), f"{wanted:.2f}", spread(noise), f"{seconds * 1000:.1f}")


def of_credentials(installation, rounds):
    with ExitStack() as stack:
        worker = installation.start(stack, "settings")
        ratio, seconds = side_by_side(worker, "verify", "verify, stock", VERIFICATIONS, rounds)
        noise, _ = side_by_side(worker, "verify, stock", "verify, stock", VERIFICATIONS, rounds)
        say("an access token verified / by simplejwt", spread(ratio), "", spread(noise), f"{seconds * 1000:.1f}")
        # The fastest too: what else a machine does makes work slower, never faster.
        each = [worker("verify", VERIFICATIONS) / VERIFICATIONS * 1e6 for _ in range(rounds)]
        low, median, high = statistics.quantiles(each, n=4)
        say("an access token verified", f"{median:.0f} us ({low:.0f} to {high:.0f}; {min(each):.0f})", "100 us", "", "")
        ratio, seconds = side_by_side(worker, "request by API key", "request", 20, rounds)
        noise, _ = side_by_side(worker, "request", "request", 20, rounds)
        say("request by API key / by token", spread(ratio), "", spread(noise), f"{seconds * 1000:.1f}")


def by_number_registered(installations, rounds):
    with ExitStack() as stack:
        workers = [each.start(stack, "settings") for each in installations]
        few = workers[0]
        for count, many in list(zip(REGISTERED, workers, strict=True))[1:]:
            ratio, seconds = compare(many, few, "request", 20, rounds)
            say(f"request, {count:,} registered / 1", spread(ratio), "1.02", "", f"{seconds * 1000:.1f}")
    with ExitStack() as stack:
        one = installations[0].start(stack, "settings")("memory", 1)
        many = installations[-1].start(stack, "settings")("memory", 100)
        say("memory, 10,000 registered and 100 active over 1", f"{(many - one) / 1e6:.1f} MB", "20 MB", "", "")


def main(engine: str, rounds: int, registered: tuple[int, ...]) -> None:
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        server = stack.enter_context(MariaDB(scratch / "mariadb")) if engine == "mysql" else None
        print(
            f"{engine}, Django {django.__version__}, Python {platform.python_version()}, {date.today()}, "
            f"{rounds} pairs by the {Installation.clock} clock: median (quartiles)\n"
        )
        databases = {1: 1, 100: 1, 10_000: WITH_DATABASE}
        say("work", "ratio", "wanted", "noise", "base, ms")
        say("---", "---", "---", "---", "---")
        made = [
            Installation(scratch / f"{n}", server, "--registered", n, "--databases", databases[n]) for n in registered
        ]
        of_credentials(made[0], rounds)  # first, as the next: tokens live for ten minutes
        if made[1:]:
            by_number_registered(made, rounds)
            against_plain(made[-1], rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--credentials", action="store_true", help="tokens and API keys only")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine; it sees no database server"
    )
    options = parser.parse_args()
    Installation.clock = options.clock
    main(options.engine, options.rounds, REGISTERED[:1] if options.credentials else REGISTERED)
