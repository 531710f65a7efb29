import os
import pwd
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from .directories import fallback_directory, fits, lock, remove_stale_fallbacks


class ServiceUnavailable(Exception):
    """A server could not be started. The message says why and, when something is missing, what to install."""


def which(program: str) -> str | None:
    # Debian keeps servers in sbin, which is not on an ordinary user's PATH.
    directories = os.environ.get("PATH", "").split(os.pathsep)
    siblings = [d.removesuffix("bin") + "sbin" for d in directories if d.endswith("/bin")]
    return shutil.which(program, path=os.pathsep.join([*directories, *siblings]))


class Service:
    """
    One server process. ``start()`` returns when it answers, ``stop()`` leaves nothing behind, ``with`` does both.

    Start it from the main thread: the kernel ends a child when the *thread* that made it ends.
    """

    label: str
    remedy: str
    socket_name: str
    start_seconds = 30
    stop_seconds = 10
    account: pwd.struct_passwd | None = None  # None: runs as ourselves

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).resolve()
        self.run_directory = self.directory
        self.process: subprocess.Popen[bytes] | None = None
        self._held: int | None = None

    def start(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{self.label} must be started from the main thread, else it would end with this one.")
        if self.is_running():
            raise RuntimeError(f"{self.label} has been started already.")
        program = self._find_program()
        try:
            self._claim_run_directory()
            self._launch([program, *self._prepare()])
            self._wait_until_it_answers()
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> None:
        if self._held is not None:
            self._end()
            self._log.unlink(missing_ok=True)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def __enter__(self) -> Self:
        return self if self.is_running() else self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _find_program(self) -> str:
        """The server's path. Raises ServiceUnavailable when it, or what it needs, is not installed."""
        raise NotImplementedError

    def _preferred_directory(self) -> Path:
        """Where the server's files go, if its socket's path is not too long there and its user may enter."""
        raise NotImplementedError

    def _prepare(self) -> list[str]:
        """Put into ``run_directory`` what the server must find there, remove what it must not; return its options."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _remove_files(self) -> None:
        raise NotImplementedError

    @property
    def _log(self) -> Path:
        return self.directory / f"{self.label.lower()}.log"

    def _unavailable(self, reason: str) -> ServiceUnavailable:
        return ServiceUnavailable(f"{self.label} cannot start: {reason}")

    def _require(self, program: str) -> str:
        path = which(program)
        if path is None:
            raise self._unavailable(f"{program} is not installed. Try: {self.remedy}")
        return path

    def _claim_run_directory(self) -> None:
        remove_stale_fallbacks()
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        run = self._preferred_directory()
        if not fits(run / self.socket_name) or not self._may_enter(run):
            run = fallback_directory(run)
            if not fits(run / self.socket_name):
                raise self._unavailable(f"{run} is too long for the path of a socket. Try a shorter TMPDIR.")
        run.mkdir(mode=0o700, exist_ok=True)
        ours = {os.geteuid(), self.account.pw_uid if self.account else os.geteuid()}
        if run != self.directory and run.lstat().st_uid not in ours:  # somebody else foresaw its name
            raise self._unavailable(f"{run} belongs to another user.")
        self._held = lock(run)
        if self._held is None:
            raise self._unavailable(f"another one is running in {run}.")
        self.run_directory = run

    def _may_enter(self, run: Path) -> bool:
        return self.account is None or all(parent.stat().st_mode & 0o001 for parent in run.parents)

    def _as_service(self, command: list[str]) -> list[str]:
        # setpriv instead of preexec_fn, which may deadlock when there are threads. It changes the user first,
        # because that clears the death signal. The shell sees whether the parent died before it was set.
        user = self.account
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"] if user else []
        if_parent_lives = '[ "$PPID" = "$0" ] && exec "$@"'
        return [
            *("/usr/bin/setpriv", *ids, "--pdeathsig", "KILL"),
            *("/bin/sh", "-c", if_parent_lives, str(os.getpid()), *command),
        ]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}  # and none of our secrets

    def _launch(self, command: list[str]) -> None:
        assert self._held is not None
        self._log.touch(mode=0o600)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the command is ours
                self._as_service(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment(),
                pass_fds=[self._held],  # held as long as the server lives, even if it should outlive us
                process_group=0,  # Ctrl-C is for us; we stop it when those who use it have ended
                umask=0o077,
            )

    def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + self.start_seconds
        while not self._answers():
            if self.process.poll() is not None:
                raise self._failure(f"it ended with exit code {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"no answer after {self.start_seconds} s")
            time.sleep(0.01)

    def _failure(self, reason: str) -> ServiceUnavailable:
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        return self._unavailable("\n    ".join([f"{reason}. {self._log} ends with:", *lines]))

    def _end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if self._held is not None:
            self._remove_files()
            if self.run_directory != self.directory:
                shutil.rmtree(self.run_directory, ignore_errors=True)
            os.close(self._held)
            self._held = None
