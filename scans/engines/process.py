"""A child process in a group of its own, read without blocking, of which nothing stays behind."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from scans.engines.orphans import Orphans
from scans.engines.protocol import MAX_LINE, ProtocolError

_CHUNK = 64 * 1024
_GRACE_SECONDS = 0.5
_STDERR_TAIL = 4096


def child_environment() -> dict[str, str]:
    """PATH without its relative entries (they would mean the cwd), and a fixed language. Nothing else."""
    entries = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry.startswith("/")]
    return {"PATH": os.pathsep.join(entries), "LANG": "C.UTF-8"}


class ChildProcess:
    """
    ``with`` ends the whole process group, however the block ends: TERM, half a second, KILL; and then, by KILL alone,
    whatever has left it.

    The kernel also kills the child when the *thread* that started it ends: start and read it in one thread.
    """

    def __init__(self, argv: Sequence[str], request: bytes) -> None:
        with os.fdopen(os.memfd_create("engine-request"), "r+b") as stdin:
            stdin.write(request)  # not a pipe: a child that does not read could block us
            stdin.flush()
            stdin.seek(0)
            self._orphans = Orphans(lambda: self._start(argv, stdin))
        self._popen = self._orphans.child
        self._selector = selectors.DefaultSelector()
        for stream in (self._popen.stdout, self._popen.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        self._partial = b""
        self.stderr_tail = b""
        self.bytes_read = 0

    @staticmethod
    def _start(argv: Sequence[str], stdin: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  an argument list of our own making
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=child_environment(),
            close_fds=True,
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        return self._popen.returncode

    def read_lines(self, seconds: float) -> list[bytes]:
        """The lines that arrive within ``seconds``, or as soon as there are any."""
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.02))
            return []
        lines: list[bytes] = []
        for key, _ in self._selector.select(seconds):
            chunk = os.read(key.fd, _CHUNK)
            self.bytes_read += len(chunk)
            if not chunk:
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._popen.stderr:
                self.stderr_tail = (self.stderr_tail + chunk)[-_STDERR_TAIL:]
            else:
                *complete, self._partial = (self._partial + chunk).split(b"\n")
                lines += complete
        if len(self._partial) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise ProtocolError("a line is too long")
        return lines

    def has_exited(self) -> bool:
        """Without reaping: the zombie keeps its number, so that the group can still be killed safely."""
        if self._popen.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def is_finished(self) -> bool:
        return self.has_exited() and not self._selector.get_map()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def end(self) -> None:
        if self._popen.returncode is None:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
            while not self.has_exited() and time.monotonic() < deadline:
                time.sleep(0.01)
            self._signal(signal.SIGKILL)
            self._popen.wait()
            self._orphans.end()
        self._selector.close()
        for stream in (self._popen.stdout, self._popen.stderr):
            assert stream is not None
            stream.close()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
