"""The real child: what it holds, what it can import, what limits it, when it dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scans.engines import ENGINES, http, ports
from scans.engines.base import EngineInputError
from scans.engines.runner import CHILD, CHILD_COMMAND, Limits, run_engine
from tests.scans.engines import servers

ROOT = Path(__file__).resolve().parents[3]
SLOW = http.Options(seconds_per_request=20)


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def engine_child():
    mine = [pid for pid in children_of(os.getpid()) if str(CHILD) in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(mine) == 1
    return mine[0]


def wait_until_gone(*pids):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        running = [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not is_zombie(pid)]
        if not running:
            return True
        time.sleep(0.02)
    return False


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def stalled():
    with servers.raw(lambda connection: time.sleep(5)) as port:
        yield port


@pytest.fixture
def running(stalled, monkeypatch, tmp_path):
    """The pid of a child that waits for a stalled server, started from a hostile directory and environment."""
    monkeypatch.setenv("SECRET_KEY", "canary")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LD_CANARY", "canary")
    for name in ("json.py", "scans.py", "sitecustomize.py", "usercustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the cwd')")
    monkeypatch.chdir(tmp_path)
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(secret, True)
    events = run_engine(http, servers.target(stalled), SLOW, Limits(memory_bytes=300 * 1024**2), lambda: False)
    next(events)
    yield engine_child()
    events.close()
    os.close(secret)


def test_the_child_has_no_environment_but_path_and_language(running):
    environment = Path(f"/proc/{running}/environ").read_bytes().decode().strip("\0").split("\0")

    assert {entry.partition("=")[0] for entry in environment} == {"PATH", "LANG"}


def test_the_child_has_no_file_open_but_its_three_pipes_and_its_sockets(running):
    links = {entry.name: os.readlink(entry) for entry in Path(f"/proc/{running}/fd").iterdir()}

    assert "secret" not in str(links)
    others = [link for number, link in links.items() if int(number) > 2]
    assert all(link.startswith("socket:") for link in others)


def test_the_child_runs_within_limits_in_a_group_of_its_own(running):
    limits = {
        line[:26].strip(): line[26:].split()[:2] for line in Path(f"/proc/{running}/limits").read_text().splitlines()
    }

    assert limits["Max address space"] == [str(300 * 1024**2)] * 2
    assert limits["Max cpu time"] == ["122"] * 2
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert os.getpgid(running) == running
    assert os.readlink(f"/proc/{running}/cwd") == "/"


def test_the_child_has_loaded_no_code_but_the_standard_library_and_this_package(running):
    mapped = Path(f"/proc/{running}/maps").read_text()

    assert "site-packages" not in mapped
    assert "_ssl" in mapped  # the engine does run


def test_the_child_cannot_import_django_settings_a_database_driver_or_what_lies_about(tmp_path):
    (tmp_path / "lying_about.py").write_text("")
    script = f"""
import runpy, sys
namespace = runpy.run_path({str(CHILD)!r}, run_name="child")
namespace["load_package"]()
import scans.engines
for name in ("django", "MySQLdb", "config", "tenants", "redis", "cryptography", "lying_about"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(name + " can be imported")
"""
    *command, _ = CHILD_COMMAND
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([*command, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_runner_and_the_engines_import_nothing_of_django():
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import scans.engines.runner, scans.engines, scans.addresses;"
        "sys.exit(any(name.partition('.')[0] in ('django', 'config', 'tenants') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-I", "-c", script]).returncode == 0


PARENT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from scans.engines import ENGINES
from scans.engines.base import EngineTarget
from scans.engines.runner import Limits, run_engine
engine = ENGINES[sys.argv[1]]
target = EngineTarget("127.0.0.1", ("127.0.0.1",), (int(sys.argv[2]),), "Bulkhead test")
for event in run_engine(engine, target, engine.Options(), Limits(), lambda: False):
    print(event, flush=True)
"""


@pytest.mark.parametrize("name", ["http", "nmap"])
def test_the_child_and_what_it_started_die_with_a_parent_that_is_killed(stalled, name):
    argv = [sys.executable, "-c", PARENT, name, str(stalled)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        wanted = {"http": 1, "nmap": 2}[name]
        family = []
        deadline = time.monotonic() + 20
        while len(family) < wanted and time.monotonic() < deadline:
            parent.stdout.readline()
            children = children_of(parent.pid)
            family = children + [pid for child in children for pid in children_of(child)]
        assert len(family) == wanted

        parent.kill()

        assert wait_until_gone(*family)


CONFINED = f"""
import os, runpy
namespace = runpy.run_path({str(CHILD)!r}, run_name="child")
namespace["confine"](os.getppid(), 1, {256 * 1024**2})
"""


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("bytearray(512 * 1024**2)", b"MemoryError"),
        ("open(os.environ['FILE'], 'wb', 0).write(b'x')", b"File too large"),
        ("os.read(int(os.environ['SECRET_FD']), 1)", b"Bad file descriptor"),
    ],
)
def test_a_confined_process_cannot_take_memory_write_files_or_use_what_it_inherited(attempt, refusal, tmp_path):
    (tmp_path / "secret").write_text("canary")
    with open(tmp_path / "secret", "rb") as secret:
        argv = [sys.executable, "-I", "-S", "-c"]
        environment = {"SECRET_FD": str(secret.fileno()), "FILE": str(tmp_path / "file")}
        passed = {"pass_fds": (secret.fileno(),), "env": environment, "capture_output": True}
        free = subprocess.run([*argv, f"import os\n{attempt}"], **passed)
        confined = subprocess.run([*argv, CONFINED + attempt], **passed)

    assert free.returncode == 0
    assert confined.returncode == 1
    assert refusal in confined.stderr


def test_a_confined_process_cannot_compute_for_longer_than_it_may():
    argv = [sys.executable, "-I", "-S", "-c", CONFINED + "while True: pass"]

    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == -signal.SIGKILL


def test_options_of_another_engine_are_refused_before_anything_starts(vault):
    with pytest.raises(EngineInputError):
        next(run_engine(http, vault.target, ports.Options(), Limits(), lambda: False))


def test_an_engine_that_is_not_installed_is_unavailable_and_covers_nothing(vault, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    nmap = ENGINES["nmap"]

    (result,) = run_engine(nmap, vault.target, nmap.Options(), Limits(), lambda: False)

    assert result.outcome == "unavailable"
    assert len(result.not_covered) == len(nmap.RULES) * len(vault.target.ports)


def test_a_child_whose_parent_is_another_than_named_does_not_start():
    done = subprocess.run(
        [*CHILD_COMMAND, "1", "10", str(512 * 1024**2)],
        input=b"{}",
        capture_output=True,
    )

    assert done.returncode != 0
    assert b"parent ended" in done.stderr


@pytest.mark.parametrize("request_text", [b"", b"[]", b"{}", b'{"engine": "../x", "target": {}, "options": {}}'])
def test_a_request_that_is_none_ends_the_child_without_a_line(request_text):
    argv = [*CHILD_COMMAND, str(os.getpid()), "10", str(512 * 1024**2)]
    done = subprocess.run(argv, input=request_text, capture_output=True)

    assert done.returncode != 0
    assert done.stdout == b""


def test_a_running_child_is_ended_by_term_alone(running):
    os.kill(running, signal.SIGTERM)

    assert wait_until_gone(running)
