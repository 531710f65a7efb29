import importlib.util
import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterable

from .redis import redis_server
from .service import which


def _has(*programs: str) -> bool:
    return all(which(program) for program in programs)


def _has_client_headers() -> bool:
    pkg_config = which("pkg-config")  # mysqlclient's build asks it, and nothing else
    return pkg_config is not None and any(
        subprocess.run([pkg_config, "--exists", name], check=False).returncode == 0  # noqa: S603 - nobody's input
        for name in ("mysqlclient", "mariadb", "libmariadb")
    )


def _has_python_headers() -> bool:
    return os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))


# What the system may have: Debian packages, test.
NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "venv": ("python3-venv", lambda: importlib.util.find_spec("ensurepip") is not None),
    "mariadb": (
        "mariadb-server-core mariadb-client-core",  # without -core the package starts a system-wide server
        lambda: _has("mariadbd", "mariadb-install-db", "mariadb"),
    ),
    "mysql-headers": ("libmariadb-dev pkg-config", _has_client_headers),
    "compiler": ("gcc libc6-dev", lambda: _has("cc") or _has("gcc")),
    "python-headers": ("python3-dev", _has_python_headers),
    "redis": ("redis-server", lambda: redis_server() is not None),
    "nmap": ("nmap", lambda: _has("nmap")),
    "chromium": ("chromium", lambda: _has("chromium")),
    "chromedriver": ("chromium-driver", lambda: _has("chromedriver")),
}


def missing(what: Iterable[str]) -> list[str]:
    """Those of ``what`` (keys of NEEDS) that are not there, each as ``"name: debian-package ..."``."""
    return [f"{name}: {packages}" for name in what for packages, is_there in [NEEDS[name]] if not is_there()]
