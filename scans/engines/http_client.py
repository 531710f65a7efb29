"""One bounded HTTP/1.1 exchange with one literal address. Follows nothing, keeps nothing open, trusts nothing."""

import re
import socket
import ssl
import time
import zlib
from dataclasses import dataclass

from scans.engines.base import EngineTarget
from scans.engines.net import NoAnswerError, dial, handshake, host_header, reason_of

MAX_HEAD = 32 * 1024
MAX_BODY = 128 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?$)")


@dataclass(frozen=True)
class Response:
    """``is_cut``: the body went on beyond the limit or broke off, so what is missing in it may still be there."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_cut: bool = False

    def header(self, name: str) -> str:
        """The first value, or an empty string; ``name`` in lower case."""
        return next((value for key, value in self.headers if key == name), "")

    def all_headers(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        return self.header("content-type").lower().startswith(("text/html", "application/xhtml"))


@dataclass(frozen=True)
class Endpoint:
    target: EngineTarget
    address: str
    port: int
    scheme: str
    seconds: float
    context: ssl.SSLContext

    @property
    def host(self) -> str:
        return host_header(self.target, self.port, 443 if self.scheme == "https" else 80)


def exchange(endpoint: Endpoint, method: str, path: str, headers: dict[str, str]) -> Response:
    """Raises ``NoAnswerError`` for everything that is not an HTTP response within the limits."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {endpoint.host}", f"User-Agent: {endpoint.target.user_agent}"]
    lines += ["Accept: */*", "Accept-Encoding: identity", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii", "strict")
    deadline = time.monotonic() + endpoint.seconds
    try:
        with _connect(endpoint) as connection:
            connection.sendall(request)
            return _read(connection, method, deadline)
    except ConnectionRefusedError as error:
        raise NoAnswerError(f"port {endpoint.port} refuses connections") from error
    except OSError as error:
        raise NoAnswerError(f"{method} {path:.80}: {reason_of(error)}") from error


def _connect(endpoint: Endpoint) -> socket.socket:
    if endpoint.scheme == "https":
        return handshake(endpoint.target, endpoint.address, endpoint.port, endpoint.context, endpoint.seconds)
    return dial(endpoint.address, endpoint.port, endpoint.seconds)


def _read(connection: socket.socket, method: str, deadline: float) -> Response:
    stream = _Stream(connection, deadline)
    head = stream.until(b"\r\n\r\n", MAX_HEAD)
    while head.startswith((b"HTTP/1.1 100", b"HTTP/1.1 103")):
        head = stream.until(b"\r\n\r\n", MAX_HEAD)
    status, headers = _parse_head(head)
    if method == "HEAD" or status in (204, 304):
        return Response(status, headers, b"")
    response = Response(status, headers, b"")
    if "chunked" in response.header("transfer-encoding").lower():
        body, is_cut = _read_chunks(stream)
    else:
        length = response.header("content-length")
        wanted = min(int(length), MAX_BODY + 1) if length.isascii() and length.isdigit() else None
        body = stream.rest(MAX_BODY + 1 if wanted is None else wanted)
        is_cut = len(body) > MAX_BODY or (wanted is not None and len(body) < wanted) or stream.is_late
    body, was_bomb = _inflate(body[:MAX_BODY], response.header("content-encoding").lower())
    return Response(status, headers, body, is_cut or was_bomb)


def _parse_head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.match(first)
    if match is None:
        raise NoAnswerError("the answer is not HTTP/1")
    headers = []
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return int(match[1]), tuple(headers)


def _read_chunks(stream: "_Stream") -> tuple[bytes, bool]:
    body = b""
    while len(body) <= MAX_BODY:
        try:
            size = int(stream.until(b"\r\n", 1024).split(b";")[0].strip() or b"x", 16)
        except (ValueError, NoAnswerError):
            return body, True
        if size <= 0:
            return body, size < 0
        chunk = stream.rest(min(size, MAX_BODY + 1))
        body += chunk
        if len(chunk) < size:
            return body, True
        stream.rest(2)
    return body, True


def _inflate(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """Servers that compress unasked exist; what unpacks to more than the limit is cut, never unpacked."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return body, False
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, told apart by their header
    try:
        plain = unpacker.decompress(body, MAX_BODY)
    except zlib.error:
        return b"", True
    return plain, bool(unpacker.unconsumed_tail) or not unpacker.eof


class _Stream:
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = b""
        self.is_late = False

    def until(self, mark: bytes, limit: int) -> bytes:
        while mark not in self._buffer:
            if len(self._buffer) > limit:
                raise NoAnswerError(f"a header or line is longer than {limit} bytes")
            if not self._more():
                raise NoAnswerError("timed out" if self.is_late else "the answer broke off")
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def rest(self, count: int) -> bytes:
        """Up to ``count`` bytes: fewer when the peer closes or the time is used up."""
        parts = [self._buffer]
        have = len(self._buffer)
        self._buffer = b""
        while have < count and self._more():
            parts.append(self._buffer)
            have += len(self._buffer)
            self._buffer = b""
        data = b"".join(parts)
        self._buffer = data[count:]
        return data[:count]

    def _more(self) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.is_late = True
            return False
        self._connection.settimeout(left)
        try:
            chunk = self._connection.recv(65536)
        except TimeoutError:
            self.is_late = True
            return False
        except OSError:
            return False
        self._buffer += chunk
        return bool(chunk)
