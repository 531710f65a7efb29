"""The processes of an installation as the Procfile has them, to be killed one by one and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from config.env import PROJECT
from scans.engines.runner import CHILD
from tenants.workers import WAITING
from tests.faults.shortened import FACTOR
from tests.serving import environment_of

MEMORY_BYTES = 4 * 1024**3


def wait_until(condition, seconds: float):
    """What the condition answers, once it is true; else None."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value or None


def start_service_again(service, log: Path) -> None:
    """An embedded server that was killed, where it was. MariaDB keeps its data, Redis has none."""
    # Not what made its first account: it would take the others away.
    command = [word for word in service.process.args if not word.startswith("--init-file=")]
    with log.open("ab") as output:
        service.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=service._environment(),
            pass_fds=[service._held], process_group=0, umask=0o077,
        )  # fmt: skip
    service._wait_until_it_answers()


def end(pid: int) -> bool:
    """Whether it was there to be killed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Processes:
    """
    One web server with two workers, ``dispatchers`` and ``workers``. What is theirs, down to the children of engines,
    is known by a word in the PATH that they inherit. ``with`` ends all of it.
    """

    def __init__(
        self, installation, redis, *, dispatchers: int = 2, workers: int = 2, first_in_path: str = "",
        worker_only: dict[str, str] | None = None, **extra: str,
    ):  # fmt: skip
        self.redis = redis
        self._worker_only = worker_only or {}
        self.mark = f"/nowhere/faults-{os.getpid()}-{time.monotonic_ns()}"
        self._home = installation.home
        self._environment = environment_of(installation) | {
            "BULKHEAD_LEASE_SECONDS": str(30 // FACTOR),
            "BULKHEAD_SWEEP_SECONDS": str(300 // FACTOR),
            "PATH": ":".join(filter(None, [first_in_path, os.environ["PATH"], self.mark])),
            **extra,
        }
        self._names = [*(f"dispatcher-{n}" for n in range(dispatchers)), *(f"worker-{n}" for n in range(workers))]
        self._names.append("web")
        self.running: dict[str, subprocess.Popen] = {}
        self.ended_by_themselves: list[str] = []

    def __enter__(self) -> "Processes":
        # It listens before the server does, so that the first request waits for the server and needs no polling.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        for name in self._names:
            self.log(name).unlink(missing_ok=True)
            self.start(name)
        return self

    def __exit__(self, *error) -> None:
        for process in self.running.values():
            process.terminate()
        wait_until(lambda: all(process.poll() is not None for process in self.running.values()), 5)
        wait_until(lambda: not [end(pid) for pid in self.pids()], 10)
        for process in self.running.values():
            process.wait()
        self._socket.close()

    def add(self, name: str) -> None:
        self._names.append(name)
        self.start(name)

    def ended(self) -> list[str]:
        """Which of ours have ended without being asked to."""
        return [name for name, process in self.running.items() if process.poll() is not None]

    def start(self, name: str) -> None:
        kind = name.partition("-")[0]
        module = {
            "dispatcher": ["tests.faults.shortened", "dispatch"],
            "worker": ["tests.faults.shortened", "worker"],
            "web": ["gunicorn", "config.wsgi", "--bind", f"fd://{self._socket.fileno()}", "--workers", "2",
                    "--threads", "8", "--no-control-socket"],
        }[kind]  # fmt: skip
        bounds = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "/usr/bin/prlimit", f"--as={MEMORY_BYTES}"]
        environment = self._environment | (self._worker_only if kind == "worker" else {})
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*bounds, sys.executable, "-m", *module], cwd=PROJECT, env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, pass_fds=[self._socket.fileno()] if kind == "web" else [],
            )  # fmt: skip

    def log(self, name: str) -> Path:
        return self._home / f"faults-{name}.log"

    def last_words(self) -> str:
        texts = {name: self.log(name).read_text(errors="replace")[-1500:] for name in self.running}
        return f"ended: {self.ended()}\n" + "\n".join(f"--- {name}\n{text}" for name, text in texts.items())

    def names(self, kind: str) -> list[str]:
        return [name for name in self._names if name.startswith(kind)]

    def pids(self) -> list[int]:
        """Everything that carries our mark, children of engines too."""
        mark, found = self.mark.encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended, or is not ours to read
                continue
        return found

    def children(self, pid: int) -> list[int]:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            return [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:
            return []

    def children_of(self, name: str) -> list[int]:
        return self.children(self.running[name].pid)

    def horses(self) -> list[int]:
        """The children of workers that have a job; each worker has one more, that waits for the next."""
        return [pid for name in self.names("worker") for pid in self.horses_of(name)]

    def horses_of(self, name: str) -> list[int]:
        return [pid for pid in self.children_of(name) if _name_of(pid) != WAITING]

    def engines(self) -> list[int]:
        return [pid for pid in self.pids() if str(CHILD) in _command_of(pid)]

    def strangers(self) -> list[int]:
        """What carries our mark and is neither a process of ours nor waits for work of one."""
        ours = {process.pid for process in self.running.values()}
        web = set(self.children(self.running["web"].pid)) if "web" in self.running else set()
        spare = {pid for name in self.names("worker") for pid in self.children_of(name)} - set(self.horses())
        return [pid for pid in self.pids() if pid not in ours | web | spare]

    def kill_worker_of(self, port: int) -> bool:
        """The worker, with its child, whose engine scans this port; another one is started. False if there is none."""
        for name in self.names("worker"):
            horses = self.children_of(name)
            engines = [pid for horse in horses for pid in self.children(horse)]
            if any(_is_connected(pid, port) for pid in engines):
                self.running[name].kill()
                for horse in horses:
                    end(horse)
                self.kill(name)
                self.start(name)
                return True
        return False

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def restart_what_ended(self) -> None:
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                self.ended_by_themselves.append(f"{name} (exit code {process.returncode})")
                self.start(name)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_connected(pid: int, port: int) -> bool:
    """Whether one of the process's sockets leads to this port of 127.0.0.1."""
    try:
        held = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2] == f"0100007F:{port:04X}" and f"socket:[{row[9]}]" in held for row in rows)
