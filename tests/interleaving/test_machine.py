"""The machine itself, as ``make prove`` runs it at length; and what it finds when there is something to find."""

import asyncio
import re
import subprocess
import sys

import pytest
from asgiref.sync import sync_to_async

from config.env import PROJECT
from scans.models import Target
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.conftest import ENGINES

OPERATIONS = 25_000


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip


def machine(*arguments):
    return run("-m", "tests.interleaving", *arguments)


@pytest.mark.parametrize("engine", ENGINES)
def test_units_of_many_tenants_side_by_side_read_and_write_their_own_rows_only(engine):
    done = machine("--engine", engine, "--operations", OPERATIONS)

    assert done.returncode == 0, done.stdout[-6000:]
    told = done.stdout.splitlines()[-1]
    counts = {
        kind: int(count)
        for count, kind in re.findall(r"(\d+) (operations|orm|sql|http|job|foreign)[, )]", told.split(" rounds ")[0])
    }
    assert "0 foreign canaries read or at rest" in told
    assert counts["operations"] >= OPERATIONS
    assert counts["http"] >= counts["operations"] / 10 and counts["job"] >= counts["operations"] / 100
    assert counts["sql"] > 1000 and counts["foreign"] > 2000


@pytest.mark.parametrize("stack", ["naive", "naive-contextvar"])
def test_the_router_that_most_people_write_first_fails_within_1000_operations(stack):
    done = machine("--stack", stack, "--operations", 1000, "--no-shrinking")

    assert done.returncode == 1, done.stdout[-3000:]
    assert re.search(r"^FAILED after \d{1,3} operations: ForeignCanary$", done.stdout, re.MULTILINE), done.stdout


def test_what_is_taken_out_of_the_isolation_is_found_within_20000_operations():
    """Three guards here, one of each ring; all that are within reach in ``make prove``."""
    guards = ["querysets.py:rows of an iterator", "querysets.py:objects given in bulk", "backends/guard.py:commit"]

    done = run("-m", "tools.prove", "--guards", *guards)

    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 of 3 guards are found to be gone within 20000 operations" in done.stdout


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thousand_requests_leave_no_descriptor_thread_or_connection(engine):
    done = run("-m", "tests.interleaving.leftovers", "--engine", engine, "--requests", 1000)

    assert done.returncode == 0, done.stdout[-3000:]
    assert "after 1000 requests" in done.stdout


def test_an_event_loop_serves_more_tenants_than_a_thread_keeps_connections(acme, globex, settings):
    settings.BULKHEAD_CONNECTIONS_PER_THREAD = 1

    async def main():
        for slug in ("acme", "globex"):
            async with tenant_context(slug):
                assert [target async for target in Target.objects.aiterator()] == []

    try:
        asyncio.run(main())
    finally:
        asyncio.run(sync_to_async(close_tenant_connections)())
