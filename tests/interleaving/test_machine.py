"""The machine itself, as ``make prove`` runs it at length; and what it finds when there is something to find."""

import re
import subprocess
import sys

import pytest

from config.env import PROJECT
from tests.conftest import ENGINES

OPERATIONS = 25_000


def machine(*arguments, seconds=600):
    command = [sys.executable, "-m", "tests.interleaving", *map(str, arguments)]
    return subprocess.run(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_units_of_many_tenants_side_by_side_read_and_write_their_own_rows_only(engine):
    done = machine("--engine", engine, "--operations", OPERATIONS)

    assert done.returncode == 0, done.stdout[-6000:]
    told = done.stdout.splitlines()[-1]
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (operations|orm|sql|http|job|foreign)\b", told)}
    assert "0 foreign canaries read or at rest" in told
    assert counts["operations"] >= OPERATIONS
    assert counts["http"] >= counts["operations"] / 10 and counts["job"] >= counts["operations"] / 100
    assert counts["sql"] > 1000 and counts["foreign"] > 2000


@pytest.mark.parametrize("stack", ["naive", "naive-contextvar"])
def test_the_router_that_most_people_write_first_fails_within_1000_operations(stack):
    done = machine("--stack", stack, "--operations", 1000, "--no-shrinking")

    assert done.returncode == 1, done.stdout[-3000:]
    assert re.search(r"^FAILED after \d{1,3} operations: ForeignCanary$", done.stdout, re.MULTILINE), done.stdout
