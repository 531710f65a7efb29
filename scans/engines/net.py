"""Bounded conversations with a hostile peer, on literal addresses only."""

import contextlib
import socket
import ssl
import time
import warnings
from dataclasses import dataclass

from scans.engines.base import EngineTarget

# Any of these lets an implementation upgrade a clear-text conversation to TLS.
STARTTLS_GREETINGS = (b"220", b"+OK", b"* OK")

_TELLING = 5  # bytes that tell HTTP and TLS from everything else, however they are cut into packets


class NoAnswerError(Exception):
    """The peer could not be asked, or did not say anything that can be judged."""


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """Raises ``ConnectionRefusedError`` for a closed port, ``NoAnswerError`` when nobody can tell."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        connection.connect((address, port))
    except ConnectionRefusedError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise NoAnswerError(f"no connection to port {port}: {reason_of(error)}") from error
    return connection


def reason_of(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "reason", None) or error)  # only errors of OpenSSL itself have a reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def read_some(connection: socket.socket, seconds: float, limit: int, until: bytes = b"") -> bytes:
    """
    What arrives until the time or the limit is used up, the peer closes, or ``until`` was seen.

    A reset counts as a close: what was said before it stays.
    """
    deadline = time.monotonic() + seconds
    data = b""
    while len(data) < limit and (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            chunk = connection.recv(min(65536, limit - len(data)))
        except OSError:
            break
        if not chunk:
            break
        data += chunk
        if until and until in data:
            break
    return data


def read_first(connection: socket.socket, seconds: float, limit: int = 1024) -> bytes | None:
    """The first thing the peer says; ``b""`` when it closes instead, ``None`` when it stays silent."""
    connection.settimeout(seconds)
    try:
        return connection.recv(limit)
    except TimeoutError:
        return None
    except OSError:
        return b""


@dataclass(frozen=True)
class Greeting:
    """``kind``: closed, tls, http, other. ``data``: what the peer said first."""

    kind: str
    data: bytes = b""


def sniff(target: EngineTarget, address: str, port: int, seconds: float) -> Greeting:
    """
    Find out what a port speaks by a plain HTTP request, which line protocols answer too.

    Asking in clear text first costs a TLS server one failed handshake, and no other server a time-out.
    Raises ``NoAnswerError`` for a port that accepts connections but answers neither.
    """
    try:
        connection = dial(address, port, seconds)
    except ConnectionRefusedError:
        return Greeting("closed")
    with connection:
        request = f"GET / HTTP/1.1\r\nHost: {host_header(target, port, 80)}\r\nUser-Agent: {target.user_agent}\r\n"
        with contextlib.suppress(OSError):
            connection.sendall((request + "Accept: */*\r\nConnection: close\r\n\r\n").encode("ascii"))
        data = read_first(connection, seconds)
        if data and len(data) < _TELLING:
            data += read_some(connection, seconds, _TELLING - len(data))
    if data and not data.startswith(b"HTTP/") and data[:2] not in (b"\x15\x03", b"\x16\x03"):
        return Greeting("other", data)
    if data and data.startswith(b"HTTP/") and data[8:13] != b" 400 ":
        return Greeting("http", data)
    if _speaks_tls(target, address, port, seconds):
        return Greeting("tls", data or b"")
    if data and data.startswith(b"HTTP/"):
        return Greeting("http", data)
    if data:
        raise NoAnswerError("the port speaks a kind of TLS that this OpenSSL cannot")
    raise NoAnswerError("the port accepts connections but answers neither HTTP nor TLS")


def _speaks_tls(target: EngineTarget, address: str, port: int, seconds: float) -> bool:
    try:
        with handshake(target, address, port, lenient_context(), seconds):
            return True
    except (OSError, NoAnswerError):
        return False


def host_header(target: EngineTarget, port: int, default_port: int) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if port == default_port else f"{host}:{port}"


def lenient_context(ciphers: str = "ALL") -> ssl.SSLContext:
    """Speaks with whatever the peer offers: certificates are judged apart, by the ``tls`` engine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    set_versions(context, ssl.TLSVersion.TLSv1, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    return context


def set_versions(context: ssl.SSLContext, low: ssl.TLSVersion, high: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is being looked for
        context.minimum_version = low
        context.maximum_version = high


def handshake(target: EngineTarget, address: str, port: int, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    connection = dial(address, port, seconds)
    try:
        return context.wrap_socket(connection, server_hostname=target.host)
    except BaseException:
        connection.close()
        raise
