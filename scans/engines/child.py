"""
Runs one engine in a process of its own that holds nothing worth stealing.

Started by the runner as ``python -I -S -B child.py PARENT_PID SECONDS MEMORY_BYTES`` with one JSON request
``{"engine", "target", "options"}`` on standard input; writes lines of JSON (``protocol``) to standard output.
``-I -S`` leave the standard library alone on the import path, so Django, its settings and database drivers
cannot be imported here at all; the package ``scans`` is loaded from beside this file, wherever the cwd is.
"""

import ctypes
import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
_MAX_REQUEST = 1024 * 1024


def confine(parent: int, seconds: int, memory_bytes: int) -> None:
    """Die with the parent, hold no descriptor but 0 to 2, and stay within limits that children inherit."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit("The parent ended before its engine could start.")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # glibc reserves 64 MiB of address space per thread otherwise, which would count against RLIMIT_AS.
    libc.mallopt(_M_ARENA_MAX, 2)
    threading.stack_size(512 * 1024)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 512)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory_bytes)


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def load_package() -> None:
    """Make ``scans`` importable, and none of its neighbours."""
    folder = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "scans", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"No package in {folder}.")
    package = importlib.util.module_from_spec(spec)
    sys.modules["scans"] = package
    spec.loader.exec_module(package)


def serve(request: bytes) -> None:
    engines = importlib.import_module("scans.engines")
    base = importlib.import_module("scans.engines.base")
    protocol = importlib.import_module("scans.engines.protocol")
    health = importlib.import_module("scans.engines.health")

    def say(value: object) -> None:
        sys.stdout.buffer.write(protocol.encode_line(value))
        sys.stdout.buffer.flush()

    data = json.loads(request)
    engine = engines.ENGINES[data["engine"]]
    target = base.from_json(base.EngineTarget, data["target"])
    options = base.from_json(engine.Options, data["options"])
    if not engine.available():
        say(protocol.Unavailable())
        return
    say(protocol.Started(engine.version()))
    say(health.probe_health(target))
    for event in engine.run(target, options):
        say(event)
    say(health.probe_health(target))
    say(protocol.Done())


def main(arguments: list[str]) -> None:
    parent, seconds, memory_bytes = (int(argument) for argument in arguments)
    confine(parent, seconds, memory_bytes)
    load_package()
    serve(sys.stdin.buffer.read(_MAX_REQUEST))


if __name__ == "__main__":
    main(sys.argv[1:])
