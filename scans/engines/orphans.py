"""
Ends what an engine's child leaves behind outside its own group of processes: whatever called setsid() or forked twice.

While a child runs, this process is the one that the kernel gives its orphans to, instead of init. They are told from
other children by their session: one can leave a session, and enter none.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS = 5.0  # for what goes on forking while it is being killed
_lock = threading.Lock()
_running: set["Orphans"] = set()


class Orphans:
    """Those of the child that ``start`` starts. ``end`` them once the child has been waited for."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._before = set(_strangers())
        self._pid = 0
        with _lock:
            _running.add(self)
            _receive_orphans(True)
            try:
                self.child = start()
            except BaseException:
                self._forget()
                raise
            self._pid = self.child.pid

    def end(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while (left := self._left()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(PermissionError, ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # a child of ours: until we wait for it, nobody else has its number
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # and its own children are ours once it has died
            time.sleep(0.005)
        with _lock:
            self._forget()

    def _left(self) -> list[int]:
        found = list(_strangers())
        with _lock:  # after looking: whoever is being started has a number by now
            others = {other._pid for other in _running}
        return [pid for pid, began in found if (pid, began) not in self._before and pid not in others]

    def _forget(self) -> None:
        _running.discard(self)
        _receive_orphans(bool(_running))


def _receive_orphans(is_wanted: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _strangers() -> Iterator[tuple[int, int]]:
    """This process's children in other sessions than its own, each with the moment that it began."""
    me, session = os.getpid(), os.getsid(0)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == me and int(fields[3]) != session:
                yield int(entry.name), int(fields[19])
