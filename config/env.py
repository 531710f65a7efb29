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
from urllib.parse import unquote, urlsplit

import dj_database_url
from environs import Env, EnvValidationError, validate

from tenants.embedded import redis_url
from tenants.secrets import KeySource, Secret, key_fault

PROJECT = Path(__file__).resolve().parent.parent
ENGINES = {"sqlite": "tenants.backends.sqlite", "mysql": "tenants.backends.mysql"}
FROM_FILES = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "BULKHEAD_MAIL_URL", "BULKHEAD_METRICS_TOKEN")
SMTP = {"smtp": (25, {}), "smtp+tls": (587, {"use_tls": True}), "smtps": (465, {"use_ssl": True})}


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
    allow_private_providers: bool
    connection_max_age: int
    lease_seconds: int
    sweep_seconds: int
    stream_seconds: int
    trusted_proxies: int
    parallel_hashes: int
    threads: int
    requests_per_minute: int
    public_url: str
    mailer: dict[str, Any]
    mail_from: str
    metrics_token: Secret


def read_environment() -> Environment:
    """Raises ``ConfigurationError`` naming every fault."""
    env = Env(eager=False)
    faults: list[str] = []
    values = {name: _from_file(name, faults) for name in FROM_FILES}
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
        "allow_private_providers": env.bool("BULKHEAD_ALLOW_PRIVATE_PROVIDERS", False),
        "connection_max_age": env.int("BULKHEAD_CONNECTION_MAX_AGE", 60, validate=validate.Range(0, 3600)),
        "lease_seconds": env.int("BULKHEAD_LEASE_SECONDS", 30, validate=validate.Range(2, 600)),
        "sweep_seconds": env.int("BULKHEAD_SWEEP_SECONDS", 300, validate=validate.Range(1, 3600)),
        "stream_seconds": env.int("BULKHEAD_STREAM_SECONDS", 25, validate=validate.Range(0, 600)),
        "trusted_proxies": env.int("BULKHEAD_TRUSTED_PROXIES", 0, validate=validate.Range(0, 8)),
        "requests_per_minute": env.int("BULKHEAD_REQUESTS_PER_MINUTE", 600, validate=validate.Range(0, 1_000_000)),
        "threads": env.int("BULKHEAD_THREADS", 16, validate=validate.Range(1, 1024)),
        "parallel_hashes": env.int("BULKHEAD_PARALLEL_HASHES", 2, validate=validate.Range(1, 64)),
        "mail_from": env.str("BULKHEAD_MAIL_FROM", "Bulkhead <bulkhead@localhost>"),
    }
    environment["mailer"] = _mailer(values["BULKHEAD_MAIL_URL"], faults)
    environment["public_url"] = _public_url(env.str("BULKHEAD_PUBLIC_URL", ""), environment, faults)
    environment["control_database"] = _database(values["DATABASE_URL"], home, faults)
    environment["metrics_token"] = _metrics_token(values["BULKHEAD_METRICS_TOKEN"], faults)
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


def _mailer(url: str, faults: list[str]) -> dict[str, Any]:
    """As Django's MAILERS have it."""
    if not url:
        return {"BACKEND": "tenants.mail_files.FileBackend"}
    try:
        parts = urlsplit(url)
        port, security = SMTP[parts.scheme]
        options = {"host": parts.hostname, "port": parts.port or port, "timeout": 10, **security}
    except (ValueError, KeyError):
        parts, options = urlsplit(""), {}
    if not options.get("host") or parts.path.strip("/") or parts.query:
        faults.append(
            "BULKHEAD_MAIL_URL: write it as smtps://user:password@host:465, smtp+tls://...:587 or smtp://host:25."
        )
        return {}
    if parts.scheme == "smtp" and parts.password:
        faults.append("BULKHEAD_MAIL_URL: smtp:// would send the password in clear: use smtps:// or smtp+tls://.")
    password = Secret(unquote(parts.password or ""))
    options |= {"username": unquote(parts.username or ""), "password": password}
    return {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}


def _public_url(url: str, environment: dict[str, Any], faults: list[str]) -> str:
    """Where members find this installation: what links in mails begin with, whatever host a request names."""
    host = environment["allowed_hosts"][:1]
    if not url:
        url = f"https://{host[0]}" if environment["is_https"] and host else "http://localhost:8000"
    form = re.fullmatch(r"(https?)://[A-Za-z0-9.-]+(?::[0-9]{1,5})?|(https?)://\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?", url)
    if form is None:
        faults.append("BULKHEAD_PUBLIC_URL: write where members find this, such as https://bulkhead.example.")
    elif environment["is_https"] and not url.startswith("https://"):
        faults.append("BULKHEAD_PUBLIC_URL: BULKHEAD_HTTPS is set: write it with https://.")
    return url


def _metrics_token(value: str, faults: list[str]) -> Secret:
    if value and not re.fullmatch(r"[!-~]{32,}", value):
        faults.append(
            "BULKHEAD_METRICS_TOKEN: write 32 visible ASCII characters at least: make one with `openssl rand -hex 32`."
        )
    return Secret(value)


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
