"""A small web server and a small line server, whose behaviour is a function from request to reply."""

import os
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_IDLE_SECONDS = 10


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    raw_head: str


@dataclass(frozen=True)
class Reply:
    """``headers`` are added to those that the site always sends."""

    body: str | bytes = ""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteApp:
    answer: Callable[[Request], Reply]
    always: Mapping[str, str] = field(default_factory=lambda: dict(GOOD_HEADERS))
    server: str = "demo"


LineApp = Callable[[Any, Any], None]


class Lifetime:
    """Ends the whole process after so many requests, between two bytes: a target that dies while it is scanned."""

    def __init__(self, requests: int | None) -> None:
        self._left = requests
        self._lock = threading.Lock()

    def count(self) -> None:
        if self._left is None:
            return
        with self._lock:
            self._left -= 1
            if self._left < 0:
                os._exit(1)


class _Handler(BaseHTTPRequestHandler):
    server: "WebServer"
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        self.server.lifetime.count()
        path, _, query = self.path.partition("?")
        app = self.server.app
        reply = app.answer(Request(self.command, path, query, dict(self.headers), str(self.headers)))
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        self.send_response(reply.status)
        headers = {**app.always, **reply.headers, "Content-Type": reply.content_type, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def version_string(self) -> str:
        return self.server.app.server

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the demo's terminal shows the scanner."""


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], app: SiteApp, lifetime: Lifetime, context: ssl.SSLContext | None = None
    ) -> None:
        self.app = app
        self.lifetime = lifetime
        self._context = context
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's name

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The TLS handshake happens in the connection's own thread, so that a stalled client stalls nobody."""
        request.settimeout(_IDLE_SECONDS)
        if self._context is None:
            super().finish_request(request, client_address)
            return
        try:
            secured = self._context.wrap_socket(request, server_side=True)
        except OSError:
            return
        with secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is no news."""


class _LineHandler(socketserver.StreamRequestHandler):
    server: "LineServer"
    timeout = _IDLE_SECONDS

    def handle(self) -> None:
        self.server.lifetime.count()
        self.server.app(self.rfile, self.wfile)


class LineServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: LineApp, lifetime: Lifetime) -> None:
        self.app = app
        self.lifetime = lifetime
        super().__init__(address, _LineHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is no news."""
