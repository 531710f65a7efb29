"""Servers of the tests: each a context manager that yields its port on 127.0.0.1."""

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from scans.engines.base import Covered, EngineTarget, FindingEvent, NotCovered
from scans.weak_targets.server import Lifetime, LineServer, SiteApp, WebServer

ADDRESS = "127.0.0.1"


def target(*ports: int, host: str = ADDRESS, ca_pem: str = "") -> EngineTarget:
    return EngineTarget(host, (ADDRESS,), ports, "Bulkhead test", ca_pem)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def site(app: SiteApp, context: ssl.SSLContext | None = None) -> contextlib.AbstractContextManager[int]:
    return serving(WebServer((ADDRESS, 0), app, Lifetime(None), context))


def lines(app: Callable[[Any, Any], None]) -> contextlib.AbstractContextManager[int]:
    return serving(LineServer((ADDRESS, 0), app, Lifetime(None)))


def speaks(*words: bytes) -> contextlib.AbstractContextManager[int]:
    """Says the first words unasked, and one more after each line it hears."""

    def talk(reader: Any, writer: Any) -> None:
        for word in words:
            writer.write(word)
            if not reader.readline(2000):
                return

    return lines(talk)


@contextlib.contextmanager
def raw(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Hands each accepted connection to ``handle``, for what no decent server does."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            with contextlib.suppress(OSError):
                handle(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True

    with serving(Server((ADDRESS, 0), Handler)) as port:
        yield port


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


def findings(events: list[object]) -> list[FindingEvent]:
    return [event for event in events if isinstance(event, FindingEvent)]


def found_rules(events: list[object]) -> set[str]:
    return {event.rule_key for event in findings(events)}


def covered_rules(events: list[object]) -> set[str]:
    return {event.rule_key for event in events if isinstance(event, Covered)}


def gaps(events: list[object]) -> dict[str, str]:
    return {event.rule_key: event.reason for event in events if isinstance(event, NotCovered)}
