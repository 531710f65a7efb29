"""
The isolation proofs that take long.

    python -m tools.prove                       the interleaving machine on both engines, and what shows that it finds
    python -m tools.prove --guards [NAME ...]   each guard within its reach taken out: it has to be found (those whose
                                                names begin so; ``python -m tools.guards --list`` names them)

OPERATIONS (1,000,000) says how many operations each engine gets. What was stopped goes on where it was, from
var/prove/; a larger OPERATIONS goes on from what is done.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from tests.interleaving import installation
from tools.guards.catalogue import catalogue
from tools.guards.removals import Removal
from tools.guards.testing import copy_source

ROOT = Path(__file__).resolve().parent.parent

REACH = tomllib.loads((ROOT / "tests" / "interleaving" / "reach.toml").read_text())
FOUND = re.compile(r"^FAILED after (\d+) operations: (\w+)$", re.MULTILINE)
ENGINES = ("sqlite", "mysql")
WITHIN, BEFORE = 20_000, 5_000
REQUESTS = FUZZED = 10_000
SECONDS = 600
DENSE = ("--foreign", 4, "--no-shrinking")  # what must be refused is tried more often


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def machine(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.interleaving", *map(str, arguments)]


def prove_engine(engine: str, operations: int, seed: str) -> bool:
    state = ROOT / "var" / "prove" / f"{engine}.json"
    say(f"{engine}: {operations} operations")
    command = machine("--engine", engine, "--operations", operations, "--seed", seed, "--state", state)
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603  our own


def prove_leftovers(engine: str) -> bool:
    say(f"{engine}: what {REQUESTS} requests leave behind")
    command = [sys.executable, "-m", "tests.interleaving.leftovers", "--engine", engine, "--requests", str(REQUESTS)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603  our own


def prove_times(engine: str) -> bool:
    is_proved = True
    for what, module in {
        "another tenant's id from one that nobody has": "timing",
        "why a log-in was refused": "log_in_timing",
    }.items():
        say(f"{engine}: whether time tells {what}")
        command = [sys.executable, "-m", f"tests.routes.{module}", "--engine", engine]
        is_proved &= subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603  our own
    return is_proved


def prove_fuzz(engine: str) -> bool:
    say(f"{engine}: {FUZZED} requests for every operation of the API, as two members at once")
    command = [sys.executable, "-m", "pytest", "-q", "tests/fuzz", "-k", f"{engine} and no_operation"]
    environment = os.environ | {"FUZZ_EXAMPLES": str(FUZZED)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0  # noqa: S603  our own


def prove_naive() -> bool:
    """The naive routers fail, and soon."""
    are_found = []
    for stack in ("naive", "naive-contextvar"):
        command = machine("--stack", stack, "--operations", 1000, "--no-shrinking")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  our own
        found = FOUND.search(done.stdout)
        are_found.append(found is not None and found[2] == "ForeignCanary")
        say(f"{stack:33} {f'{found[2]} after {found[1]} operations' if found else 'NOT FOUND'}")
    return all(are_found)


def within_reach() -> list[Removal]:
    """Of the files that the machine is about, what reach.toml does not except."""
    chosen = [removal for removal in catalogue() if removal.name.partition(":")[0] in REACH["files"]]
    return [each for each in chosen if not any(re.match(pattern, each.name) for pattern in REACH["not_in_reach"])]


def prove_guards(names: list[str], seed: str) -> bool:
    """Whether the machine finds that each of them is gone. In a process of its own: an installation sets Django up."""
    command = [sys.executable, "-m", "tools.prove", "--engine", "sqlite", "--seed", seed, "--guards", *names]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603  our own


def without_each(engine: str, guards: list[Removal], seed: str) -> bool:
    are_found = []
    with installation.new(engine), tempfile.TemporaryDirectory(prefix="bulkhead-prove-") as directory:
        made, tree, home = (
            Path(os.environ["BULKHEAD_HOME"]),
            copy_source(Path(directory) / "tree"),
            Path(directory) / "h",
        )
        for guard in [None, *guards]:  # first with nothing taken out
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(made, home, ignore=shutil.ignore_patterns("*.sock", "*.log"))
            before = (tree / guard.path).read_text() if guard else ""
            if guard:
                (tree / guard.path).write_text(guard.source)
            is_found = _finds(guard.name if guard else "nothing", tree, home, seed, WITHIN if guard else BEFORE)
            if guard:
                (tree / guard.path).write_text(before)
                are_found.append(is_found)
            elif is_found:
                return False
    say(f"{sum(are_found)} of {len(guards)} guards are found to be gone within {WITHIN} operations")
    return all(are_found)


def _finds(what: str, tree: Path, home: Path, seed: str, operations: int) -> bool:
    command, began_at = machine("--home", home, "--operations", operations, "--seed", seed, *DENSE), time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603  our own
            command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"{what:62} NOT FOUND: it hangs")
        return False
    found, seconds = FOUND.search(done.stdout), time.monotonic() - began_at
    told = f"{found[2]:13} after {found[1]:>5} operations" if found else _last(done.stdout)
    verdict = "found" if done.returncode else "NOT FOUND"
    say(f"{what:62} {verdict:9} {told}, seed {seed} ({seconds:.1f} s)")
    return done.returncode != 0


def _last(text: str) -> str:
    return (text.splitlines() or [""])[-1][:100]


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guards", nargs="*", metavar="NAME", help="only this part; all of them if none is named")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", default="1")
    options = parser.parse_args(arguments)
    reached = within_reach()
    if options.engine:
        chosen = [each for each in reached if not options.guards or each.name.startswith(tuple(options.guards))]
        return without_each(options.engine, chosen, options.seed)
    if options.guards is not None:
        return prove_guards(options.guards, options.seed)
    operations = int(os.environ.get("OPERATIONS") or 1_000_000)
    are_good = [prove_engine(engine, operations, options.seed) for engine in ENGINES]
    are_good += [prove(engine) for prove in (prove_leftovers, prove_fuzz, prove_times) for engine in ENGINES]
    return all([*are_good, prove_naive(), prove_guards([], options.seed)])


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
