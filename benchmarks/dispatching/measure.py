"""
What `python -m benchmarks.dispatching` measures, in the installation that it has made.

One system works at a time, the others are stopped (SIGSTOP): a sweep takes a core, and would slow all. So each is
measured as if it had the machine, and in turns, so that what else the machine does meets all of them.
"""

import os
import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import transaction  # noqa: E402
from django_rq import get_queue  # noqa: E402

from benchmarks.dispatching.starts import Starts, note  # noqa: E402
from benchmarks.dispatching.systems import Direct, Product, Sweep, System, what_to_scan  # noqa: E402
from benchmarks.isolation.__main__ import say, spread  # noqa: E402
from scans.models import Scan, ScanCounter, ScanEvent, TaskQueue  # noqa: E402
from tenants.context import tenant_context  # noqa: E402

WITHIN = 2.0  # seconds, in which each active tenant asks once, at any moment
LONGEST = 120.0
FLOOD, SMALL = 10_000, 5
JOBS = 100


def ask_all(system: System, active: list[str], starts: Starts, order: random.Random) -> dict[str, list[float]]:
    """Each of the active tenants once, at a random moment; milliseconds from commit until each thing that is noted."""
    began_at = time.monotonic()
    committed = {}
    for moment, slug in sorted((order.uniform(0, WITHIN), slug) for slug in active):
        time.sleep(max(0.0, began_at + moment - time.monotonic()))
        message, committed_at = system.ask(slug)
        committed[message] = committed_at
    starts.wait_for(system.ended, list(committed), LONGEST)
    noted = {what: starts.of(what) for what in ("started", "leased")}
    return {
        what: [(at[message] - since) * 1000 for message, since in committed.items() if message in at]
        for what, at in noted.items()
    }


def latency(active: list[str], starts: Starts, rounds: int, sweeps: int) -> None:
    order = random.Random(1)
    with ExitStack() as stack:
        product = Product(stack)
        _wait_until_all_are_looked_at(product, starts)
        systems = {"product": product, "direct": Direct(stack)}
        systems |= {f"sweep, {name}": Sweep(stack, name) for name in ("django", "sqlalchemy") if sweeps}
        time.sleep(5)
        for system in systems.values():
            system.set_running(False)
        taken = {name: [] for name in systems}
        leased = []
        for number in range(rounds + 1):
            for name, system in systems.items():
                if name.startswith("sweep") and number > sweeps:
                    continue
                with system:
                    found = ask_all(system, active, starts, order)
                if number:  # the first one warms up
                    taken[name].append(found["started"])
                    leased += found["leased"]
        for system in systems.values():
            system.set_running(True)
    if "passed over" in (settings.BULKHEAD_HOME / "dispatch.log").read_text():
        raise SystemExit("The dispatcher has met tenants that it could not look at: these figures are of no use.")
    say("commit to job start", "p50, ms", "p99, ms", "longest, ms", "jobs", "by direct, of each round's median")
    say("---", "---", "---", "---", "---", "---")
    for name, found in taken.items():
        ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(found, taken["direct"], strict=False)]
        say(name, *_summary([each for one in found for each in one]), spread(statistics.quantiles(ratios, n=4)))
    say("product, until the worker has its lease", *_summary(leased), "")


def _wait_until_all_are_looked_at(product: Product, starts: Starts) -> None:
    starts.wait_for("looked-at-all", [str(product.processes[0].pid)], 900)


def _summary(milliseconds: list[float]) -> tuple[str, ...]:
    ordered = sorted(milliseconds)
    ninety_ninth = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{statistics.median(ordered):.0f}", f"{ninety_ninth:.0f}", f"{ordered[-1]:.0f}", str(len(ordered))


def fairness(active: list[str], starts: Starts) -> None:
    """A tenant with many queued, and then some of each of the others at once."""
    big, *small = active
    with ExitStack() as stack:
        product = Product(stack)
        _wait_until_all_are_looked_at(product, starts)
        flood = set(_fill(big))
        starts.wait_for("started", [product.ask(small[0])[0]], LONGEST)
        _behind("product", product, small, flood, starts)
    with ExitStack() as stack:
        direct = Direct(stack)
        direct.set_running(False)
        time.sleep(1)
        flood = {direct.ask(big)[0] for _ in range(JOBS * 5)}
        direct.set_running(True)
        _behind("direct", direct, small, flood, starts)


def _behind(name: str, system: System, small: list[str], flood: set[str], starts: Starts) -> None:
    before = len(flood & starts.of("started").keys())
    first = [system.ask(slug) for slug in small]
    others = [system.ask(slug) for _ in range(SMALL - 1) for slug in small]
    noted = starts.wait_for("started", [message for message, _ in first + others], LONGEST)
    times = sorted(at for message, at in starts.of("started").items() if message in flood)
    waits = [sum(since < at < noted[message] for at in times) for message, since in first]
    last = sum(at < max(noted.values()) for at in times) - before
    seconds = max(noted[message] - since for message, since in first + others)
    say(f"{name}, {len(flood):,} queued", max(waits), last, f"{seconds:.1f}")


def _fill(slug: str) -> list[str]:
    with tenant_context(slug), transaction.atomic():
        number, asked = ScanCounter.objects.get().number, what_to_scan()
        asked["created_by"] = asked.pop("user")
        scans = [Scan(number=number + n, moves=1, **asked) for n in range(1, FLOOD + 1)]
        Scan.objects.bulk_create(scans, batch_size=500)
        ScanEvent.objects.bulk_create([ScanEvent(scan=scan, sequence=1, state="queued") for scan in scans], 500)
        tasks = TaskQueue.objects.bulk_create([TaskQueue(task_id=scan.number) for scan in scans], batch_size=500)
        ScanCounter.objects.update(number=number + FLOOD)
    return [str(task.message_id) for task in tasks]


def throughput(active: list[str], starts: Starts, rounds: int) -> None:
    """The same job that does nothing, by one worker of each."""
    with ExitStack() as stack:
        systems = {"product": Product(stack, workers=1), "direct": Direct(stack, workers=1)}
        time.sleep(5)
        rates = {name: [] for name in systems}
        for number in range(rounds + 1):
            for name in list(systems)[:: 1 if number % 2 else -1]:
                rates[name].append(_rate(systems[name], active[0], starts, f"{name}-{number}"))
        ratios = [a / b for a, b in zip(rates["product"][1:], rates["direct"][1:], strict=True)]
        say("jobs a second, by stock RQ's", spread(statistics.quantiles(ratios, n=4)), "0.95")
        for name, each in rates.items():
            say(f"jobs a second, {name}", spread(statistics.quantiles(each[1:], n=4)), "")


def _rate(system: System, slug: str, starts: Starts, name: str) -> float:
    system.set_running(False)
    messages = [f"{name}-{n}" for n in range(JOBS)]
    with tenant_context(slug):
        queue = get_queue("default") if isinstance(system, Product) else system.queue
        for message in messages:
            queue.enqueue(note, message)
    with system:
        noted = starts.wait_for("started", messages, LONGEST)
    system.set_running(True)
    times = sorted(noted.values())
    return (JOBS - 1) / (times[-1] - times[0])


def main(rounds: int, sweeps: int, active: int, parts: list[str]) -> None:
    slugs = [f"active{n}" for n in range(active)]
    starts = Starts(Path(os.environ["BENCHMARK_STARTS"]))
    if "latency" in parts:
        latency(slugs, starts, rounds, sweeps)
    if "fairness" in parts:
        sys.stdout.write("\n")
        say("with one tenant's queue full", "jobs of its before another's first, at most", "before the last", "s")
        say("---", "---", "---", "---")
        fairness(slugs, starts)
    if "throughput" in parts:
        sys.stdout.write("\n")
        say("work", "ratio", "wanted")
        say("---", "---", "---")
        throughput(slugs, starts, max(8, rounds // 2))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4:])
