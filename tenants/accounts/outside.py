"""
Requests to addresses that a tenant's owner names, who may be an attacker: the name is resolved once, every address of
it is judged, and the connection goes to one of these. Redirects are not followed, no proxy is used, and size, time
and number at once are bounded.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from django.conf import settings

from tenants.exceptions import TooBusyError

SILENCE_SECONDS = 5.0
TOTAL_SECONDS = 10.0
MAX_BYTES = 256 * 1024
AT_ONCE = 4  # in a process: slow answers hold no more of its threads than these
_turns = threading.BoundedSemaphore(AT_ONCE)


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Whoever reaches these holds the cloud account: refused whatever is set.
METADATA = _networks(
    "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128",
    "fd00:42::42/128", "fe80::/10",
)  # fmt: skip
LOOPBACK = _networks("127.0.0.0/8", "::1/128")
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
# Reserved, or another spelling of an address that would be judged otherwise.
NO_HOSTS = _networks(
    "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")


class OutsideError(Exception):
    """What was named may not be asked, or did not answer as it should. The reason is for the log and for the owner."""


def require_url(url: object) -> SplitResult:
    """``https``, or ``http`` to this very machine where that is allowed; no user, no fragment, no spaces."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or len(url) > 500:
        raise OutsideError("An address is a URL of at most 500 ASCII characters.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise OutsideError("The address is no URL.") from error
    if not host or parts.fragment or "@" in parts.netloc or "\\" in url:
        raise OutsideError("The address has a user or a fragment, or no host.")
    is_local = host in ("127.0.0.1", "::1", "localhost") and settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise OutsideError("The address is not one of https.")
    return parts


def ask_json(method: str, url: object, form: Mapping[str, str] | None = None, **headers: str) -> dict[str, Any]:
    """The JSON object of a 200. Raises ``OutsideError`` for anything else, and ``TooBusyError``."""
    parts = require_url(url)
    if not _turns.acquire(timeout=SILENCE_SECONDS):
        raise TooBusyError("Too many identity providers are slow.")
    try:
        status, body = _ask(method, parts, urlencode(form) if form is not None else None, headers)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise OutsideError(f"{parts.hostname} does not answer ({type(error).__name__}).") from error
    finally:
        _turns.release()
    if status != 200:
        raise OutsideError(f"{parts.hostname} answers {status}.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OutsideError(f"{parts.hostname} answers no JSON.") from error
    if not isinstance(content, dict):
        raise OutsideError(f"{parts.hostname} answers no JSON object.")
    return content


def addresses_of(host: str) -> list[str]:
    """Every address of the name, if all of them may be asked. Waits for the system's resolver."""
    found = []
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        text = str(address[0])
        if "%" in text or not _may_be_asked(ipaddress.ip_address(text)):
            raise OutsideError(f"{host} has the address {text}, which may not be asked.")
        found.append(text)
    return found


def _may_be_asked(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if _is_in(address, METADATA + NO_HOSTS):
        return False
    if _is_in(address, LOOPBACK + PRIVATE):
        return settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS
    return address.is_global if isinstance(address, ipaddress.IPv4Address) else address in GLOBAL_IPV6


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class _Connection(http.client.HTTPConnection):
    """To the address that was judged, in the name that was asked for."""

    def __init__(self, parts: SplitResult):
        self.is_secure = parts.scheme == "https"
        super().__init__(str(parts.hostname), parts.port or (443 if self.is_secure else 80), timeout=SILENCE_SECONDS)
        self.open_sock: socket.socket | None = None  # also when the response has taken it over

    def connect(self) -> None:
        self.open_sock = self.sock = socket.create_connection((addresses_of(self.host)[0], self.port), SILENCE_SECONDS)
        if self.is_secure:
            context = ssl.create_default_context()
            secure = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.open_sock = self.sock = secure
            secure.do_handshake()

    def cut(self) -> None:
        with suppress(OSError):
            if self.open_sock is not None:
                self.open_sock.shutdown(socket.SHUT_RDWR)


def _ask(method: str, parts: SplitResult, body: str | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = _Connection(parts)
    # Who sends a byte now and then is never silent.
    deadline = threading.Timer(TOTAL_SECONDS, connection.cut)
    deadline.daemon = True
    deadline.start()
    try:
        sent = {"Accept": "application/json", "User-Agent": "Bulkhead"} | dict(headers)
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, parts._replace(scheme="", netloc="").geturl() or "/", body, sent)
        response = connection.getresponse()
        content = response.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OutsideError(f"{parts.hostname} answers with more than {MAX_BYTES} bytes.")
        return response.status, content
    finally:
        deadline.cancel()
        connection.close()
