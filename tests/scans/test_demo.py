"""The README's first command, as it is run: its output, its pace, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SILENCE = 3.0


def start(home, *argv):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BULKHEAD_", "DJANGO_"))}
    return subprocess.Popen(
        [sys.executable, "-u", "manage.py", "demo", *argv],
        cwd=ROOT,
        env=environment | {"BULKHEAD_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def read(process):
    """Its lines, and the longest time between two of them."""
    lines, longest, last = [], 0.0, time.monotonic()
    for line in process.stdout:
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        lines.append(line.rstrip("\n"))
    process.wait(30)
    return lines, longest


def processes_that_mention(home):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(home).encode() in command and int(entry.name) != os.getpid():
                found.append(entry.name)
    return found


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_the_demonstration_shows_what_it_promises_and_leaves_nothing_running(tmp_path, engine):
    with start(tmp_path, "--engine", engine) as process:
        lines, longest = read(process)

    text = "\n".join(lines)
    assert process.returncode == 0, text
    assert longest < LONGEST_SILENCE, text
    verdicts = re.findall(r"planted (\d+): found (\d+), missed (\d+), false (\d+)", text)
    assert len(verdicts) == 3
    for planted, found, missed, false in verdicts:
        assert (planted, missed, false) == (found, "0", "0")
    assert sorted(int(planted) >= 6 for planted, *_ in verdicts) == [False, True, True]
    assert text.count("404  {'code': 'not_found', 'detail': 'Not found.'}") == 2
    assert text.count("WRONG: acme's row 41 says 38") == 2
    assert len(list((tmp_path / "demo").glob("*-*.html"))) == 3
    assert ("1142" in text and "1044" in text) == (engine == "mysql")
    assert processes_that_mention(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demonstration_that_is_interrupted_leaves_nothing_running(tmp_path, number):
    with start(tmp_path) as process:
        for line in process.stdout:
            if line.startswith("Scanning"):
                process.send_signal(number)
                break
        rest, _ = read(process)

    assert rest[-1] == "Stopped."
    assert processes_that_mention(tmp_path) == []
