"""Sites that fight back: each is survived within its limits, and what it hides is never called clean."""

import contextlib
import gzip
import socket
import struct
import time

import pytest

from scans.engines import http, ports
from scans.engines.http_client import MAX_BODY
from scans.engines.sweep import sweep
from scans.weak_targets.server import Reply, SiteApp
from tests.scans.engines import servers

OPTIONS = http.Options(seconds_per_request=1, seconds_per_port=6)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def endless(start, piece):
    def handle(connection):
        connection.recv(5000)
        connection.sendall(start)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(piece)

    return handle


def drip(start):
    def handle(connection):
        connection.recv(5000)
        connection.sendall(start)
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.1)

    return handle


def answer(data):
    def handle(connection):
        connection.recv(5000)
        connection.sendall(data)

    return handle


def reset(connection):
    connection.recv(5000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BOMB = gzip.compress(b"\0" * (100 * MAX_BODY))
HOSTILE = {
    "endless headers": endless(HEAD, b"X-Filler: " + b"a" * 1000 + b"\r\n"),
    "endless header line": endless(HEAD + b"X: ", b"a" * 1000),
    "endless body": endless(HEAD + b"\r\n", b"<p>" * 1000),
    "endless chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"),
    "endless interim answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "huge chunk": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"a" * 1000),
    "negative chunk": answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n"),
    "gzip bomb": answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "broken gzip": answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"),
    "short body": answer(HEAD + b"Content-Length: 5000\r\n\r\nhello"),
    "drip in the head": drip(b"HTTP/1.1 200 OK\r\nX: "),
    "drip in the body": drip(HEAD + b"\r\n"),
    "reset": reset,
    "stall": lambda connection: time.sleep(8),
    "no http": answer(b"HTTP/9.9 banana\r\n\r\n"),
    "tag soup": answer(HEAD + b"Content-Length: 100000\r\n\r\n" + b"<a href=" * 12_500),
    "half a form": answer(HEAD + b"Content-Length: 90000\r\n\r\n" + b"<form action='" + b" " * 89_985 + b"\n"),
}
SURVIVED_WHOLE = {"tag soup", "half a form"}  # an ugly page, read to its end


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_site_costs_bounded_time_and_is_not_called_clean(kind):
    started = time.monotonic()
    with servers.raw(HOSTILE[kind]) as port:
        events = list(http.run(servers.target(port), OPTIONS))

    assert time.monotonic() - started < 12
    gaps = servers.gaps(events)
    assert ("http.form.password-in-clear" in gaps) == (kind not in SURVIVED_WHOLE)
    assert "the probe failed" not in str(gaps)
    assert ("is longer than" in str(gaps)) == kind.startswith("endless header")
    assert servers.covered_rules(events) | set(gaps) == set(http.RULES)


def test_a_site_that_fails_five_times_in_a_row_is_left_alone():
    connections = []

    def fail_after_the_first(connection):
        connections.append(1)
        connection.recv(5000)
        if len(connections) == 1:
            connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")

    with servers.raw(fail_after_the_first) as port:
        events = list(http.run(servers.target(port), OPTIONS))

    assert len(connections) == 1 + 5
    assert set(servers.gaps(events)) == set(http.RULES)


def test_a_link_to_another_site_is_not_asked_for_here_either():
    asked = []

    def answer_page(request):
        asked.append(request.path)
        return Reply(
            "<a href='http://other.example/theirs'>t</a><a href='https://127.0.0.1/x'>s</a><a href='ours'>o</a>"
        )

    with servers.site(SiteApp(answer_page)) as port:
        list(http.run(servers.target(port), OPTIONS))

    assert "/ours" in asked
    assert not {"/theirs", "/x"} & set(asked)


def test_a_fault_in_a_probe_covers_nothing_and_tells_of_itself(capsys):
    def faulty(address, port):
        yield from ()
        raise RecursionError

    events = list(sweep(servers.target(80), http.RULES, faulty, 1))

    assert servers.gaps(events) == dict.fromkeys(http.RULES, "the probe failed: RecursionError")
    assert "RecursionError" in capsys.readouterr().err


def test_a_redirect_to_another_port_or_host_is_not_followed():
    visitors = []
    with servers.raw(visitors.append) as elsewhere:
        links = f"<a href='http://127.0.0.1:{elsewhere}/'>p</a><a href='//127.0.0.2/'>h</a><a href='file:///etc'>f</a>"

        def lead_away(request):
            away = {"Location": f"http://127.0.0.1:{elsewhere}{request.path}"}
            return Reply(links, 200 if request.path == "/stay" else 302, headers=away)

        with servers.site(SiteApp(lead_away)) as port:
            events = list(http.run(servers.target(port), OPTIONS))

    assert visitors == []
    assert servers.covered_rules(events) == set(http.RULES)


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://h:99999999/", "//", "\x00", "http://\u2100/", "https://elsewhere.invalid:x/"]
)
def test_a_location_that_is_no_address_is_survived(location):
    site = SiteApp(lambda request: Reply("", 302, headers={"Location": location.encode().decode("latin-1")}))
    with servers.site(site) as port:
        events = list(http.run(servers.target(port), OPTIONS))

    assert "the probe failed" not in str(servers.gaps(events))


def test_cookies_and_headers_of_any_shape_are_survived():
    nasty = {"Set-Cookie": "=; ;;=;sessionid", "Server": "\x1b[31m/9<script>", "Strict-Transport-Security": "max-age="}
    with servers.site(SiteApp(lambda request: Reply("hi"), nasty)) as port:
        events = list(http.run(servers.target(port), OPTIONS))

    assert "http.header.version-disclosed" in servers.found_rules(events)
    assert "the probe failed" not in str(servers.gaps(events))


def test_a_port_scan_of_an_endless_banner_is_bounded():
    def flood(connection):
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"A" * 65536)

    started = time.monotonic()
    with servers.raw(flood) as port:
        events = list(ports.run(servers.target(port), ports.Options(wait_ms=300)))

    assert time.monotonic() - started < 3
    assert servers.found_rules(events) == {"port.open"}
