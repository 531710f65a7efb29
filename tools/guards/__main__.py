"""
Takes each guard out of a copy of the source in turn; a test must go red.

    python -m tools.guards                    all of them; exits 1 if one survives
    python -m tools.guards binding.py:        those whose names begin so
    python -m tools.guards --list
    python -m tools.guards --learn            after `make coverage`: finds the test for each that has none yet
    python -m tools.guards --learn --tests tests/tenants/test_orm.py -- NAME ...   among these

What is taken out is found in the syntax tree (removals.py) or listed (edits.toml). The test that is known to go red
without it (found.toml) is run; if it stays green, those that executed it under `make coverage` are, or, where that
has not been run, all. The working tree is only read.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tools.guards.candidates import Candidates, Given, is_slow_to_start
from tools.guards.catalogue import ROOT, catalogue, found, needless, write_found
from tools.guards.contexts import DURATIONS
from tools.guards.removals import Removal
from tools.guards.testing import Outcome, copy_source, run_tests, run_warm
from tools.guards.warm import NOT_SWAPPABLE

ALL = ["tests/invariants", "tests/tenants", "tests/config", "tests/scans"]
SECONDS_FOR_ONE, SECONDS_FOR_MANY, SECONDS_FOR_ALL = 60, 300, 1800
LIKELY = 60  # candidates; what none of them notices, hardly any other will
WORKERS = min(2, os.cpu_count() or 1)


class Run:
    """First in warm processes, in which a removal takes a fraction of a second; then, each by itself, what is left."""

    def __init__(self, chosen: list[Removal], trees: list[Path], candidates: Candidates | Given | None, learn: bool):
        self.left = {removal.name: removal for removal in chosen}
        self.trees, self.candidates = trees, candidates
        self.tests, self.is_learning = found(), learn
        self.not_swappable: set[str] = set()
        self.writing = threading.Lock()

    def tests_for(self, removal: Removal) -> list[str]:
        known = [self.tests[removal.name]] if removal.name in self.tests else []
        return known + (self.candidates.of(removal)[:LIKELY] if self.candidates else [])

    def warm(self) -> None:
        for is_wanted, engine in ((False, "sqlite"), (True, "mysql")):
            jobs = [
                {"name": each.name, "path": str(each.path), "source": each.source, "tests": tests}
                for each in self.left.values()
                if (
                    tests := [
                        test
                        for test in self.tests_for(each)
                        if (is_slow_to_start(test) is is_wanted or "[" not in test)
                    ]
                )
            ]
            with ThreadPoolExecutor(WORKERS) as pool:
                shares = [jobs[number :: len(self.trees)] for number in range(len(self.trees))]
                list(pool.map(self._warm, self.trees, [engine] * len(self.trees), shares))

    def _warm(self, tree: Path, engine: str, jobs: list[dict]) -> None:
        for answer in run_warm(tree, engine, jobs) if jobs else ():
            if answer["red"] == NOT_SWAPPABLE:
                self.not_swappable.add(answer["name"])
            elif answer["red"]:
                self._is_red(self.left[answer["name"]], answer["red"], answer["seconds"])

    def cold(self) -> None:
        trees: SimpleQueue[Path] = SimpleQueue()
        for tree in self.trees:
            trees.put(tree)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda removal: self._take_out(removal, trees), list(self.left.values())))

    def _take_out(self, removal: Removal, trees: SimpleQueue[Path]) -> None:
        tree, began_at = trees.get(), time.monotonic()
        before = (tree / removal.path).read_text()
        try:
            (tree / removal.path).write_text(removal.source)
            outcome = self._try(removal, tree)
        finally:
            (tree / removal.path).write_text(before)
            trees.put(tree)
        seconds = time.monotonic() - began_at
        if outcome.red:
            self._is_red(removal, outcome.red, seconds)
        else:
            say(f"SURVIVED {seconds:6.1f} s  {removal.name:58} {outcome.fault or 'every test is green'}")

    def _try(self, removal: Removal, tree: Path) -> Outcome:
        known = self.tests.get(removal.name)
        outcome = run_tests(tree, [known], SECONDS_FOR_ONE) if known else Outcome("", "")
        if any(outcome):
            return outcome
        if self.candidates is None:
            return run_tests(tree, ALL, SECONDS_FOR_ALL)
        if isinstance(self.candidates, Candidates) and removal.name not in self.not_swappable:
            return Outcome("", "no test that executes it notices")
        likely = sorted(self.tests_for(removal), key=is_slow_to_start)
        return run_tests(tree, likely, SECONDS_FOR_MANY) if likely else Outcome("", "no test is known to execute it")

    def _is_red(self, removal: Removal, test: str, seconds: float) -> None:
        say(f"red      {seconds:6.1f} s  {removal.name:58} {test.removeprefix('tests/')}")
        with self.writing:
            del self.left[removal.name]
            if self.is_learning and test.startswith("tests/"):
                write_found(found() | {removal.name: test})


def take_out_all(chosen: list[Removal], candidates: Candidates | Given | None, *, learn: bool, warm_only: bool) -> bool:
    """Whether a test holds each of the guards."""
    began_at, reasons = time.monotonic(), needless()
    tried = [removal for removal in chosen if removal.name not in reasons]
    with tempfile.TemporaryDirectory(prefix="bulkhead-guards-") as directory:
        trees = [copy_source(Path(directory) / str(number)) for number in range(WORKERS)]
        run = Run(tried, trees, candidates, learn)
        run.warm()
        if warm_only:
            say("\n".join(f"left     {'':8}  {name}" for name in run.left))
        else:
            run.cold()
    without_test = [removal.name for removal in chosen if removal.name in reasons]
    for name in without_test:
        say(f"no test {'':8}  {name:58} {reasons[name]}")
    say(
        f"{len(chosen)} removals: {len(tried) - len(run.left)} red, {len(without_test)} that no test can notice, "
        f"{len(run.left)} survived ({time.monotonic() - began_at:.0f} s)"
    )
    return not run.left


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name what would be taken out")
    parser.add_argument("--learn", action="store_true", help="find the tests that are not known yet")
    parser.add_argument("--warm-only", action="store_true", help="try nothing in a process of its own")
    parser.add_argument("--tests", nargs="+", default=[], metavar="TEST", help="where to find them")
    options = parser.parse_args(arguments)
    everything = catalogue()
    chosen = [each for each in everything if each.name.startswith(tuple(options.names or [""]))]
    if not chosen:
        parser.error("nothing has a name like that; --list names all")
    if options.list:
        for removal in chosen:
            say(f"{removal.name:58} {' '.join(removal.text.split()):.100}")
        return True
    candidates: Candidates | Given | None = None
    if options.tests:
        candidates = Given(options.tests)
    elif (ROOT / ".coverage").exists() and (ROOT / DURATIONS).exists():
        candidates = Candidates(ROOT / ".coverage", ROOT / DURATIONS)
    if options.learn:
        write_found({name: test for name, test in found().items() if name in {each.name for each in everything}})
        chosen = [each for each in chosen if each.name not in found()]
    return take_out_all(chosen, candidates, learn=options.learn, warm_only=options.warm_only)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
