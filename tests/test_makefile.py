import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
# What the Makefile reads, without the Django code: a copy in which no target can get far.
PARTS = ["Makefile", "Procfile", "pyproject.toml", ".ci", "tools/system-packages", "tenants/embedded"]


def run(*command, cwd, **environment):
    # Nothing of ours, and not the MAKEFLAGS of the `make test` that may be running this.
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb"} | environment
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path):
    copy = tmp_path / "copy"
    for part in PARTS:
        source, target = PROJECT / part, copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    (copy / "tenants" / "__init__.py").touch()
    return copy


@pytest.fixture
def path_without_mariadb(tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    for place in ("/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = directory / program.name
            if not re.match("mariadb|mysql", program.name) and not link.is_symlink():
                link.symlink_to(program)
    python = directory / "python3"
    python.unlink(missing_ok=True)
    python.symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
    return str(directory)


def test_help_lists_every_target_that_can_be_made_and_nothing_else(copy):
    listed = re.findall(r"^make ([a-z-]+) +\S.*$", run("make", "help", cwd=copy).stdout, re.MULTILINE)
    by_default = run("make", cwd=copy).stdout

    assert listed == [
        "help",
        "demo",
        "run",
        "test",
        "test-next",
        "check",
        "guards",
        "coverage",
        "bench",
        "prove",
        "faults",
    ]
    assert by_default == run("make", "help", cwd=copy).stdout
    for target in listed:
        assert run("make", "-n", target, cwd=copy).returncode == 0


@pytest.mark.parametrize("command", [["make", "test"], [".ci/run"], ["make", "demo", "ENGINE=mysql"]])
def test_a_missing_mariadb_is_named_and_stops_everything_when_it_may_not_be_installed(
    command, copy, path_without_mariadb
):
    done = run(*command, cwd=copy, PATH=path_without_mariadb, NO_INSTALL="1")

    assert done.returncode != 0
    assert "mariadb: mariadb-server-core mariadb-client-core" in done.stdout
    assert "apt-get install mariadb-server-core mariadb-client-core" in done.stdout
    assert not (copy / ".venv").exists()


def test_a_missing_python_is_said_plainly(copy):
    done = run("make", "demo", "PYTHON=python3.nowhere", cwd=copy)

    assert done.returncode != 0
    assert "python3.nowhere is not installed. Bulkhead needs Python 3.11 or later." in done.stdout


def test_test_next_says_what_it_needs_where_there_is_no_such_python(copy, path_without_mariadb):
    Path(path_without_mariadb, "python3.13").unlink(missing_ok=True)

    done = run("make", "test-next", cwd=copy, PATH=path_without_mariadb)

    assert done.returncode != 0
    assert "make test-next needs Python 3.13" in done.stdout
    assert not (copy / ".venv-next").exists()


def test_an_unknown_engine_is_refused(copy):
    done = run("make", "demo", "ENGINE=oracle", cwd=copy)

    assert done.returncode != 0
    assert "ENGINE=oracle is not known" in done.stdout


def test_installing_happens_once_per_change_of_pyproject(copy):
    pip = copy / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.touch()
    stamp = copy / ".venv" / ".with-demo"
    stamp.touch()
    installed = run("make", "-n", "demo", cwd=copy).stdout

    os.utime(copy / "pyproject.toml", (stamp.stat().st_mtime + 10,) * 2)
    changed = run("make", "-n", "demo", cwd=copy).stdout

    assert "pip install" not in installed
    assert "pip install" in changed


def test_the_procfile_runs_the_four_processes(copy):
    done = run(sys.executable, "-m", "honcho", "check", cwd=copy)

    assert done.returncode == 0
    assert "(web, redis, dispatch, worker, mail)" in done.stdout  # web first: honcho gives the first one PORT itself
