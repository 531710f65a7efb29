"""What is wrong with each weak target: the yardstick that a scan is held against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

PORT_BASE = 18080
ADDRESSES = {"webshop": "127.0.0.11", "intranet": "127.0.0.12", "vault": "127.0.0.13"}
# Service name to its distance from the port base.
SERVICES: dict[str, dict[str, int]] = {
    "webshop": {"http": 0, "https": 1, "telnet": 2},
    "intranet": {"http": 0, "https": 1, "redis": 2},
    "vault": {"https": 1},
}

_HTTP, _HTTPS, _CLEAR = PORT_BASE, PORT_BASE + 1, PORT_BASE + 2


@dataclass(frozen=True)
class PlantedFlaw:
    """``port`` as with the default port base; ``flaws_at`` gives the ones of a running target."""

    rule_key: str
    port: int
    path: str
    description: str


MANIFEST: dict[str, tuple[PlantedFlaw, ...]] = {
    "webshop": (
        PlantedFlaw("http.exposed.env", _HTTP, "/.env", "the settings file lies in the document root"),
        PlantedFlaw("http.exposed.backup", _HTTP, "/backup.zip", "a backup lies in the document root"),
        PlantedFlaw("http.form.password-in-clear", _HTTP, "/login", "the log-in form is served over http"),
        PlantedFlaw("http.directory-listing", _HTTP, "/uploads/", "the upload directory lists its files"),
        PlantedFlaw("http.open-redirect", _HTTP, "/go", "the parameter next leads anywhere"),
        PlantedFlaw("http.method.trace", _HTTP, "/", "TRACE sends requests back"),
        PlantedFlaw("http.error-details", _HTTP, "/", "error pages show a trace"),
        PlantedFlaw("http.cookie.not-httponly", _HTTP, "/", "scripts can read the session cookie"),
        PlantedFlaw("http.cookie.no-samesite", _HTTP, "/", "the session cookie has no SameSite"),
        PlantedFlaw("http.cookie.not-secure", _HTTPS, "/", "the basket cookie of the https shop is not Secure"),
        PlantedFlaw("tls.certificate.expired", _HTTPS, "", "the certificate has expired"),
        PlantedFlaw("tls.certificate.name-mismatch", _HTTPS, "", "the certificate is for shop.example"),
        PlantedFlaw("tls.cipher.no-forward-secrecy", _HTTPS, "", "RSA key exchange is accepted"),
        PlantedFlaw("service.telnet", _CLEAR, "", "remote maintenance by Telnet"),
        PlantedFlaw("port.open", _CLEAR, "", "the Telnet port"),
    ),
    "intranet": (
        PlantedFlaw("http.auth.default-credentials", _HTTP, "/admin/", "admin's password is admin"),
        PlantedFlaw("http.auth.basic-in-clear", _HTTP, "/admin/", "Basic authentication over http"),
        PlantedFlaw("http.exposed.git", _HTTP, "/.git/HEAD", "deployed together with its repository"),
        PlantedFlaw("http.exposed.database-dump", _HTTP, "/dump.sql", "a dump lies in the document root"),
        PlantedFlaw("http.method.write", _HTTP, "/", "PUT and DELETE are offered"),
        PlantedFlaw("http.header.version-disclosed", _HTTP, "/", "the Server header tells the version"),
        PlantedFlaw("http.header.csp-missing", _HTTP, "/", "no Content-Security-Policy"),
        PlantedFlaw("http.header.nosniff-missing", _HTTP, "/", "no X-Content-Type-Options"),
        PlantedFlaw("http.header.framing-allowed", _HTTP, "/", "pages can be framed"),
        PlantedFlaw("http.header.referrer-policy-missing", _HTTP, "/", "no Referrer-Policy"),
        PlantedFlaw("http.cors.reflected-credentials", _HTTPS, "/api/profile", "any origin reads the profile"),
        PlantedFlaw("http.header.hsts-missing", _HTTPS, "/", "no Strict-Transport-Security"),
        PlantedFlaw("tls.certificate.self-signed", _HTTPS, "", "the certificate is signed by itself"),
        PlantedFlaw("tls.certificate.weak-key", _HTTPS, "", "RSA with 1024 bits"),
        PlantedFlaw("tls.version.tls10", _HTTPS, "", "TLS 1.0 is accepted"),
        PlantedFlaw("tls.version.tls11", _HTTPS, "", "TLS 1.1 is accepted"),
        PlantedFlaw("service.redis-unauthenticated", _CLEAR, "", "a cache without a password"),
        PlantedFlaw("port.open", _CLEAR, "", "the cache's port"),
    ),
    "vault": (),
}


def flaws_at(name: str, ports: Mapping[str, int]) -> tuple[PlantedFlaw, ...]:
    """The planted flaws of a target whose services listen on ``ports``."""
    moved = {PORT_BASE + distance: ports[service] for service, distance in SERVICES[name].items()}
    return tuple(replace(flaw, port=moved[flaw.port]) for flaw in MANIFEST[name])


class Place(Protocol):
    """A ``FindingEvent``, a ``PlantedFlaw``, a stored finding."""

    @property
    def rule_key(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Comparison:
    """``found`` and ``missed`` are planted flaws; ``false`` are findings that nobody planted."""

    found: tuple[Place, ...]
    missed: tuple[Place, ...]
    false: tuple[Place, ...]


def compare(found: Iterable[Place], planted: Iterable[Place]) -> Comparison:
    """By rule, port and path."""
    reported = {_key(item): item for item in found}
    expected = {_key(item): item for item in planted}
    return Comparison(
        found=tuple(item for key, item in expected.items() if key in reported),
        missed=tuple(item for key, item in expected.items() if key not in reported),
        false=tuple(item for key, item in reported.items() if key not in expected),
    )


def _key(item: Place) -> tuple[str, int, str]:
    return item.rule_key, item.port, item.path
