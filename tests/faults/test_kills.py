"""Random kills, as `make faults` has them at length."""

import re
import subprocess
import sys

import pytest

from config.env import PROJECT
from tests.conftest import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
def test_no_accepted_scan_is_lost_stuck_or_recorded_twice_whoever_is_killed(engine, tmp_path):
    def kill(count):
        command = [sys.executable, "-m", "tests.faults", "--engine", engine, "--kills", str(count), "--seed", "1"]
        return subprocess.run(
            [*command, "--state", tmp_path / "state.json"],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
        )  # fmt: skip

    done = kill(3)

    assert done.returncode == 0, done.stdout
    assert re.search(r"3 of 3 kills: [1-9]\d* scans accepted, 0 lost, 0 twice, 0 stuck", done.stdout), done.stdout
    assert "3 kills" in kill(3).stdout.splitlines()[-1]  # it goes on where it was: nothing is left to be killed
