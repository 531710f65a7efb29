"""
Takes each guard out of a copy of the source in turn; a test must go red.

    python -m tools.guards                    all of them; exits 1 if one survives
    python -m tools.guards binding.py:        those whose names begin so
    python -m tools.guards --list
    python -m tools.guards --learn            after `make coverage`: finds the test for each that has none yet
    python -m tools.guards --learn --tests tests/tenants/test_orm.py -- NAME ...      among these

What is taken out is found in the syntax tree (removals.py) or listed (edits.toml). The test that is known to go red
without it (found.toml) is run; if it stays green, all are. The working tree is only read.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tools.guards.candidates import Candidates, Given, is_slow_to_start
from tools.guards.catalogue import ROOT, catalogue, found, needless, write_found
from tools.guards.contexts import DURATIONS
from tools.guards.removals import Removal
from tools.guards.testing import Outcome, copy_source, run_tests

ALL = ["tests/invariants", "tests/tenants", "tests/config", "tests/scans"]
SECONDS_FOR_ONE, SECONDS_FOR_MANY, SECONDS_FOR_ALL = 60, 300, 1800
LIKELY = 60  # candidates; what none of them notices, hardly any other will


class Run:
    def __init__(self, trees: Iterable[Path], candidates: Candidates | Given | None):
        self.trees: SimpleQueue[Path] = SimpleQueue()
        for tree in trees:
            self.trees.put(tree)
        self.candidates = candidates
        self.tests = found()
        self.writing = threading.Lock()

    def is_green_before(self, chosen: list[Removal]) -> bool:
        began_at = time.monotonic()
        tests = sorted({self.tests[removal.name] for removal in chosen if removal.name in self.tests})
        say(f"Before anything is taken out, the {len(tests)} tests for {len(chosen)} removals ...")
        tree = self.trees.get()
        outcome = run_tests(tree, tests, SECONDS_FOR_ALL) if tests else Outcome("", "")
        self.trees.put(tree)
        seconds = time.monotonic() - began_at
        say(
            f"... are not green: {outcome.red or outcome.fault}" if any(outcome) else f"... are green ({seconds:.0f} s)"
        )
        return not any(outcome)

    def take_out(self, removal: Removal) -> str:
        """The verdict."""
        tree, began_at = self.trees.get(), time.monotonic()
        before = (tree / removal.path).read_text()
        try:
            (tree / removal.path).write_text(removal.source)
            outcome = self._try(removal, tree)
        finally:
            (tree / removal.path).write_text(before)
            self.trees.put(tree)
        verdict = "red" if outcome.red else "SURVIVED"
        self._note(removal, outcome)
        about = outcome.red.removeprefix("tests/") or outcome.fault or "every test is green"
        say(f"{verdict:8} {time.monotonic() - began_at:6.1f} s  {removal.name:58} {about}")
        return verdict

    def _try(self, removal: Removal, tree: Path) -> Outcome:
        known = self.tests.get(removal.name)
        outcome = run_tests(tree, [known], SECONDS_FOR_ONE) if known else Outcome("", "")
        if any(outcome):
            return outcome
        if self.candidates is None:
            return run_tests(tree, ALL, SECONDS_FOR_ALL)
        likely = sorted(self.candidates.of(removal)[:LIKELY], key=is_slow_to_start)
        return run_tests(tree, likely, SECONDS_FOR_MANY) if likely else Outcome("", "no test executes it")

    def _note(self, removal: Removal, outcome: Outcome) -> None:
        if self.candidates is not None and outcome.red.startswith("tests/"):
            with self.writing:
                self.tests[removal.name] = outcome.red
                write_found(self.tests)


def take_out_all(chosen: list[Removal], candidates: Candidates | Given | None) -> bool:
    """Whether a test holds each of the guards."""
    began_at, workers, reasons = time.monotonic(), min(2, os.cpu_count() or 1), needless()
    with tempfile.TemporaryDirectory(prefix="bulkhead-guards-") as directory:
        run = Run([copy_source(Path(directory) / str(number)) for number in range(workers)], candidates)
        if not run.is_green_before(chosen):
            return False
        with ThreadPoolExecutor(workers) as pool:
            verdicts = Counter(pool.map(run.take_out, (each for each in chosen if each.name not in reasons)))
    skipped = [removal.name for removal in chosen if removal.name in reasons]
    for name in skipped:
        say(f"{'no test':8} {'':8}  {name:58} {reasons[name]}")
    say(
        f"{len(chosen)} removals: {verdicts['red']} red, {len(skipped)} that no test can notice, "
        f"{verdicts['SURVIVED']} survived ({time.monotonic() - began_at:.0f} s)"
    )
    return not verdicts["SURVIVED"]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name what would be taken out")
    parser.add_argument("--learn", action="store_true", help="find the tests that are not known yet")
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
    candidates = None
    if options.learn:
        write_found({name: test for name, test in found().items() if name in {each.name for each in everything}})
        candidates = Given(options.tests) if options.tests else Candidates(ROOT / ".coverage", ROOT / DURATIONS)
        chosen = [each for each in chosen if each.name not in found()]
    return take_out_all(chosen, candidates)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
