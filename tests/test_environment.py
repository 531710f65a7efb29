"""Tests start in an installation of their own, or not at all."""

import os
import subprocess
import sys

import pytest

from config.env import PROJECT

FOREIGN = {
    "home": "BULKHEAD_HOME is /srv/bulkhead",
    "file": "the control database is /srv/bulkhead/control.sqlite3",
    "server": "the control database is bulkhead",
    "Redis": "Redis (default) is redis://redis.example:6379/0",
}


def start(part):
    command = [sys.executable, "-m", "pytest", "--ds=tests.production_settings", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "tests/test_docs.py", "-k", "every_error"],
        cwd=PROJECT, env=os.environ | {"PRODUCTION": part}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("part", FOREIGN)
def test_tests_do_not_start_where_anything_is_not_their_own(part):
    done = start(part)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert FOREIGN[part] in done.stderr
    assert "passed" not in done.stdout


def test_tests_start_where_everything_is_their_own():
    done = start("nothing")

    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
