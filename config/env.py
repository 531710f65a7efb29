"""
Every environment variable that Bulkhead reads, in one place.

`X_FILE` names a file that holds X. All faults are found before any is reported.
"""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dj_database_url
from environs import Env, EnvValidationError, validate

from tenants.embedded import redis_url
from tenants.secrets import KeySource, Secret, key_fault

PROJECT = Path(__file__).resolve().parent.parent
ENGINES = {"sqlite": "tenants.backends.sqlite", "mysql": "tenants.backends.mysql"}


class ConfigurationError(Exception):
    """Bulkhead cannot start as it is configured: every fault is listed, each with what to do."""

    def __init__(self, faults: list[str]):
        super().__init__("Bulkhead is not configured correctly:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True)
class Environment:
    home: Path
    secret_key: Secret
    runtime_key: KeySource
    fleet_key: KeySource
    control_database: dict[str, Any]
    redis_url: Secret
    debug: bool
    allowed_hosts: list[str]
    operator_host: str
    is_https: bool
    allow_loopback_targets: bool
    allow_private_targets: bool
    connection_max_age: int
    lease_seconds: int
    sweep_seconds: int
    trusted_proxies: int
    parallel_hashes: int
    requests_per_minute: int


def read_environment() -> Environment:
    """Raises ``ConfigurationError`` naming every fault."""
    env = Env(eager=False)
    faults: list[str] = []
    values = {name: _from_file(name, faults) for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")}
    home = Path(env.str("BULKHEAD_HOME", "") or PROJECT / "var").absolute()
    environment: dict[str, Any] = {
        "home": home,
        "runtime_key": KeySource("BULKHEAD_RUNTIME_KEY", home / "keys" / "runtime.key"),
        "fleet_key": KeySource("BULKHEAD_FLEET_KEY", home / "keys" / "fleet.key"),
        "redis_url": Secret(values["REDIS_URL"] or redis_url(home)),
        "debug": env.bool("BULKHEAD_DEBUG", False),
        "allowed_hosts": env.list("BULKHEAD_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"]),
        "operator_host": env.str("BULKHEAD_OPERATOR_HOST", "").lower(),
        "is_https": env.bool("BULKHEAD_HTTPS", False),
        "allow_loopback_targets": env.bool("BULKHEAD_ALLOW_LOOPBACK_TARGETS", False),
        "allow_private_targets": env.bool("BULKHEAD_ALLOW_PRIVATE_TARGETS", False),
        "connection_max_age": env.int("BULKHEAD_CONNECTION_MAX_AGE", 60, validate=validate.Range(0, 3600)),
        "lease_seconds": env.int("BULKHEAD_LEASE_SECONDS", 30, validate=validate.Range(2, 600)),
        "sweep_seconds": env.int("BULKHEAD_SWEEP_SECONDS", 30, validate=validate.Range(1, 600)),
        "trusted_proxies": env.int("BULKHEAD_TRUSTED_PROXIES", 0, validate=validate.Range(0, 8)),
        "requests_per_minute": env.int("BULKHEAD_REQUESTS_PER_MINUTE", 600, validate=validate.Range(0, 1_000_000)),
        "parallel_hashes": env.int("BULKHEAD_PARALLEL_HASHES", 2, validate=validate.Range(1, 64)),
    }
    environment["control_database"] = _database(values["DATABASE_URL"], home, faults)
    environment["secret_key"] = _secret_key(values["SECRET_KEY"], home, faults)
    faults += filter(None, (key_fault(environment[name]) for name in ("runtime_key", "fleet_key")))
    try:
        env.seal()
    except EnvValidationError as error:
        messages: Any = error.error_messages
        faults += [f"{name}: {' '.join(map(str, found))}" for name, found in messages.items()]
    if not re.fullmatch(r"[a-z0-9.-]*", environment["operator_host"]):
        faults.append("BULKHEAD_OPERATOR_HOST: write a host name alone, such as operators.bulkhead.example.")
    if environment["operator_host"] in environment["allowed_hosts"]:
        faults.append(
            "BULKHEAD_OPERATOR_HOST: members are served on that host too: take it out of BULKHEAD_ALLOWED_HOSTS."
        )
    if not re.match(r"(redis|rediss|unix)://", environment["redis_url"]):
        faults.append("REDIS_URL: write it as redis://host:6379/0, rediss://... or unix:///path/to/socket.")
    if faults:
        raise ConfigurationError(faults)
    return Environment(**environment)


def _from_file(name: str, faults: list[str]) -> str:
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "")
    if os.environ.get(name):
        faults.append(f"{name} and {name}_FILE are both set: remove one.")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{name}_FILE: {path} cannot be read ({type(error).__name__}): name a readable text file.")
        return ""


def _database(url: str, home: Path, faults: list[str]) -> dict[str, Any]:
    if not url:
        return {"ENGINE": ENGINES["sqlite"], "NAME": str(home / "control.sqlite3")}
    try:
        parsed: dict[str, Any] = dict(dj_database_url.parse(url))
    except Exception:  # the parser's own message may quote the URL, and so the password
        parsed = {}
    engine = parsed.get("ENGINE", "").rpartition(".")[2].removesuffix("3")
    if engine not in ENGINES or not parsed.get("NAME"):
        faults.append("DATABASE_URL: write it as mysql://user:password@host:3306/name or sqlite:////path/to/file.")
        return {}
    return parsed | {"ENGINE": ENGINES[engine], "PASSWORD": Secret(parsed.get("PASSWORD") or "")}


def _secret_key(value: str, home: Path, faults: list[str]) -> Secret:
    """
    Signs the sessions' and forms' values. Unset, it is the one in the home directory; before the first command that
    writes state has made that, a random one serves this process alone.
    """
    path = home / "keys" / "secret_key"
    if not value and path.exists():
        value = path.read_text().strip()
    if value and len(value) < 32:
        faults.append("SECRET_KEY: is shorter than 32 characters: make one with `openssl rand -base64 48`.")
    return Secret(value or secrets.token_urlsafe(48))
