"""
A service per fault, on MariaDB: see `Service`. `FAULTS=all` is what `make faults` asks for; without it those that are
marked `long` are left out.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.disk import Disk
from tests.faults.service import Service
from tests.sick import sick, sick_server  # noqa: F401  fixtures

ROWS: list[dict] = []


def pytest_collection_modifyitems(config, items):
    if os.environ.get("FAULTS") == "all":
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_runtest_logreport(report):
    if report.when == "call" and (row := dict(report.user_properties)).get("fault"):
        ROWS.append(row | {"outcome": report.outcome})


def pytest_terminal_summary(terminalreporter):
    if ROWS:
        terminalreporter.section("faults")
        for row in ROWS:
            terminalreporter.line(
                f"{row['outcome']:<6}  {row['fault']:<60}  {row.get('measured', '-'):<50}  {row['must']}"
            )


@pytest.fixture
def fault(record_property):
    """Names the fault and what must happen; what is called with it afterwards is what was measured."""

    def name(fault: str, must: str):
        record_property("fault", fault)
        record_property("must", must)
        return lambda measured: record_property("measured", measured)

    return name


@pytest.fixture
def service(acme, globex, alice, mallory, installation, redis):
    """Begins with nothing running but the databases."""
    with Service(installation, redis) as service:
        yield service


@pytest.fixture(scope="session")
def clock(tmp_path_factory):
    """A library that puts a program's clock FAULTS_CLOCK seconds ahead, for LD_PRELOAD."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.fixture(scope="session")
def disk():
    with Disk() as disk:
        yield disk
