"""
Takes each guard out of a copy of the source in turn; a test must go red.

    python tools/guards.py              all of them; exits 1 if one survives
    python tools/guards.py NAME ...     some of them
    python tools/guards.py --list

The edits are in guards.toml. The tests that are likely to notice are run first, and have to be green before any edit;
if they stay green without the guard, everything is run. The working tree is only read.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".venv*", ".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "var", "*.egg-info")
SECONDS_FOR_LIKELY_TESTS, SECONDS_FOR_ALL = 120, 1800
RED = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - |$)", re.MULTILINE)


class Guard(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str

    @property
    def path(self) -> Path:
        return Path("tenants") / self.file

    def edit(self, tree: Path) -> None:
        """Raises ``ValueError`` unless the source has the guard exactly once."""
        source = (tree / self.path).read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.path} has {source.count(self.old)} times: {self.old!r}")
        (tree / self.path).write_text(source.replace(self.old, self.new))


GUARDS = [Guard(name, **edit) for name, edit in tomllib.loads((ROOT / "tools" / "guards.toml").read_text()).items()]


class Outcome(NamedTuple):
    is_red: bool
    text: str  # the test that went red, or why nothing can be said; empty when all is green


def run_tests(tree: Path, tests: Sequence[str], seconds: int) -> Outcome:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    command += ["--ignore=tests/test_guards.py", *tests]  # which compares the source with the list of guards
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        command,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Outcome(False, f"{tests[0]} did not end within {seconds} s: {stop(process)}")
    if red := RED.search(output):
        return Outcome(True, red[1].removeprefix("tests/"))
    return Outcome(False, "" if process.returncode == 0 else output[-2000:])


def stop(process: subprocess.Popen) -> str:
    """By interrupt, on which pytest stops the servers that it started."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=30)[0][-500:]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0][-500:]


def try_guard(guard: Guard, tree: Path) -> Outcome:
    """What the tests say without the guard. The tree is put back."""
    before = (tree / guard.path).read_text()
    try:
        guard.edit(tree)
        outcome = run_tests(tree, [f"tests/{guard.test}"], SECONDS_FOR_LIKELY_TESTS)
        if not outcome.is_red and not outcome.text:
            outcome = run_tests(tree, ["tests"], SECONDS_FOR_ALL)
        return outcome
    except ValueError as error:
        return Outcome(False, f"the edit does not match: {error}")
    finally:
        (tree / guard.path).write_text(before)


def run_all(guards: list[Guard], workers: int) -> bool:
    """Whether a test holds each of the guards."""
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bulkhead-guards-") as directory:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            trees.put(copy_tree(Path(directory) / str(number)))
        say(f"Before any edit, the tests for {len(guards)} guards ...")
        tree = trees.get()
        outcome = run_tests(tree, sorted({f"tests/{guard.test}" for guard in guards}), SECONDS_FOR_ALL)
        trees.put(tree)
        if outcome.text:
            say(f"... are not green: {outcome.text}")
            return False
        say(f"... are green ({time.monotonic() - started_at:.0f} s)")

        def one(guard: Guard) -> bool:
            tree, began_at = trees.get(), time.monotonic()
            try:
                outcome = try_guard(guard, tree)
            finally:
                trees.put(tree)
            verdict, seconds = "red" if outcome.is_red else "SURVIVED", time.monotonic() - began_at
            say(f"{guard.name:33} {verdict:9}{seconds:6.1f} s  {outcome.text or 'every test is green'}")
            return outcome.is_red

        with ThreadPoolExecutor(workers) as pool:
            are_held = list(pool.map(one, guards))
    say(f"{sum(are_held)} of {len(guards)} guards are held by a test ({time.monotonic() - started_at:.0f} s)")
    return all(are_held)


def copy_tree(tree: Path) -> Path:
    return Path(shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name the guards")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {guard.name for guard in GUARDS}:
        parser.error(f"there is no guard {', '.join(sorted(unknown))}; --list names them")
    if options.list:
        for guard in GUARDS:
            say(f"{guard.name:33} {guard.path}")
        return True
    chosen = [guard for guard in GUARDS if guard.name in options.names or not options.names]
    return run_all(chosen, workers=min(2, os.cpu_count() or 1))


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
