"""Running tests in a copy of the source."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.guards.catalogue import ROOT

NOT_COPIED = (".venv*", ".git", "__pycache__", ".*_cache", ".coverage*", "var", "*.egg-info")
RED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?::.+?)(?: - |$)", re.MULTILINE)
NOT_STARTED = re.compile(r"^(?:E\s+)?((?:\w+\.)*\w+Error\b.{,60}).*\s*\Z", re.MULTILINE)
# The exit code alone does not say so: that of tests on one engine is 1, because the other has passed fewer.
GREEN = re.compile(r"^\d+ passed(, \d+ \w+)* in ", re.MULTILINE)


class Outcome(NamedTuple):
    red: str  # the test that went red
    fault: str  # why nothing can be said; without it and without ``red``, all is green


def copy_source(tree: Path) -> Path:
    return Path(shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def run_tests(tree: Path, tests: Sequence[str], seconds: int) -> Outcome:
    """Until the first that is red."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    command += ["--ignore=tests/test_guards.py", *tests]  # which compares the source with the list of guards
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        command,
        cwd=tree,
        env=environment(tree),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Outcome("", f"the tests did not end within {seconds} s: {_stop(process)[-500:]}")
    if red := RED.search(output):
        return Outcome(red[1], "")
    if GREEN.search(output):
        return Outcome("", "")
    if error := NOT_STARTED.search(output):
        return Outcome(f"every test, since none starts: {error[1]}", "")
    return Outcome("", output[-2000:])


def run_warm(tree: Path, engine: str, jobs: list[dict]) -> Iterator[dict]:
    """For each job (``name``, ``path``, ``source``, ``tests``) what went red without it: see warm.py."""
    first = f"tests/tenants/test_binding.py::test_a_binding_is_used_once[{engine}]"
    files = sorted({test.partition("::")[0] for job in jobs for test in (first, *job["tests"])})
    read, write = os.pipe()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as work, os.fdopen(read) as answers:
        json.dump({"first": first, "jobs": jobs}, work)
        work.flush()
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.guards.warm", *files],
            cwd=tree,
            env=environment(tree) | {"GUARDS_WORK": work.name, "GUARDS_ANSWERS": str(write)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
        )
        os.close(write)
        yield from (json.loads(answer) for answer in answers)
        process.wait()


def environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def _stop(process: subprocess.Popen) -> str:
    """By interrupt, on which pytest stops the servers that it started."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=30)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]
