"""Starting what the demonstration needs, and stopping all of it, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

SIGN_OF_LIFE_SECONDS = 1.0
STOP_SECONDS = 10.0


class Processes:
    """The demonstration's child processes. ``say`` gets a line for each step, and more while a step takes long."""

    def __init__(self, home: Path, environment: Mapping[str, str], say: Callable[[str], None]):
        self.home = home
        self.environment = dict(environment)
        self.say = say
        self._running: list[subprocess.Popen] = []

    def manage(self, what: str, *argv: str, stdin: str = "") -> str:
        """One ``manage.py`` command to its end; what it wrote. Raises ``CommandError`` with its last words."""
        started_at = said_at = time.monotonic()
        with subprocess.Popen(  # noqa: S603  our own commands
            [sys.executable, str(settings.BASE_DIR / "manage.py"), *argv],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            self._running.append(process)
            while True:
                try:
                    output, _ = process.communicate(stdin or None, timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    stdin = ""
                    if time.monotonic() - said_at > SIGN_OF_LIFE_SECONDS:
                        said_at = time.monotonic()
                        self.say(f"    ... {what} ({said_at - started_at:.0f} s)")
            self._running.remove(process)
        if process.returncode:
            raise CommandError(f"{what} failed: {output.strip()[-2000:]}")
        self.say(f"  {what}  ({time.monotonic() - started_at:.1f} s)")
        return output

    def start(self, name: str, *argv: str) -> subprocess.Popen:
        """A process that stays; what it writes goes to a file in the home directory."""
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                argv,
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for us: we stop them in order
            )
        self._running.append(process)
        return process

    def start_target(self, name: str) -> dict:
        """A weak target as its first line describes it: address, ports by service, ca_pem."""
        process = subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-m",
                "scans.weak_targets",
                name,
                "--directory",
                str(self.home / name),
                "--port-base",
                "0",
            ],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._running.append(process)
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise CommandError(f"The target {name} did not start.")
        return json.loads(line)

    def require_alive(self) -> None:
        for process in self._running:
            if process.poll() is not None:
                raise CommandError(
                    f"{process.args!r} ended with exit code {process.returncode}; see {self.home}/*.log."
                )

    def stop(self) -> None:
        """TERM to all, the last started first; KILL to whatever is left."""
        running, self._running = self._running, []
        for process in reversed(running):
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in reversed(running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill_group(process)
                process.wait()


def _kill_group(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def end_on_signals(stack: ExitStack) -> None:
    """TERM ends the demonstration as Ctrl-C does: by an exception, so that everything is stopped."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    stack.callback(signal.signal, signal.SIGTERM, previous)
