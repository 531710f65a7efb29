"""The weak targets, each a process of its own as in the demo, on free ports."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scans.engines.base import EngineTarget

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class RunningTarget:
    name: str
    target: EngineTarget
    ports: dict[str, int]
    process: subprocess.Popen


@pytest.fixture(scope="session")
def start_target(tmp_path_factory) -> Iterator[Callable[..., RunningTarget]]:
    processes = []

    def start(name: str, *options: str) -> RunningTarget:
        directory = tmp_path_factory.mktemp(name)
        argv = [sys.executable, "-m", "scans.weak_targets", name, "--directory", str(directory), "--port-base", "0"]
        process = subprocess.Popen([*argv, *options], stdout=subprocess.PIPE, cwd=ROOT)
        processes.append(process)
        ready = json.loads(process.stdout.readline())
        address, ports = ready["address"], ready["ports"]
        target = EngineTarget(address, (address,), tuple(ports.values()), "Bulkhead test", ready["ca_pem"])
        return RunningTarget(name, target, ports, process)

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def webshop(start_target):
    return start_target("webshop")


@pytest.fixture(scope="session")
def intranet(start_target):
    return start_target("intranet")


@pytest.fixture(scope="session")
def vault(start_target):
    return start_target("vault")
