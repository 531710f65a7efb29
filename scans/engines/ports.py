"""Connects to each listed port, reads what it says, and asks a few harmless questions."""

import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from scans.engines.base import EngineTarget, Event, FindingEvent, NotCovered, Rule, check_int, rule_table
from scans.engines.net import Greeting, NoAnswerError, dial, read_first, read_some, sniff
from scans.engines.rules import FTP, MYSQL, OPEN_PORT, SERVICE_RULES, TELNET, service_finding
from scans.engines.sweep import sweep

NAME = "ports"
INTRUSIVENESS = "safe_active"

FTP_ANONYMOUS = Rule(
    "service.ftp-anonymous",
    "FTP admits anonymous users",
    "medium",
    284,
    "Refuse the user names anonymous and ftp, unless the files are meant for everybody.",
)
REDIS = Rule(
    "service.redis-unauthenticated",
    "Redis answers without a password",
    "critical",
    306,
    "Bind Redis to a private interface and require a password (ACL or requirepass).",
)
MEMCACHED = Rule(
    "service.memcached-unauthenticated",
    "memcached answers without authentication",
    "high",
    306,
    "Bind memcached to a private interface, or switch SASL on.",
)
VNC = Rule(
    "service.vnc-unauthenticated",
    "VNC admits everybody without a password",
    "critical",
    306,
    "Require a password, and reach VNC through a tunnel only.",
)

RULES = SERVICE_RULES | rule_table(FTP_ANONYMOUS, REDIS, MEMCACHED, VNC)

_TELNET_COMMANDS = {bytes([255, verb]) for verb in (251, 252, 253, 254)}  # IAC WILL, WONT, DO, DONT
_EVIDENCE = 200


@dataclass(frozen=True)
class Options:
    wait_ms: int = 1000
    parallel: int = 16

    def __post_init__(self) -> None:
        check_int("wait_ms", self.wait_ms, 100, 10_000)
        check_int("parallel", self.parallel, 1, 32)


def version() -> str:
    return f"python {platform.python_version()}"


def available() -> bool:
    return True


def run(target: EngineTarget, options: Options) -> Iterator[Event]:
    seconds = options.wait_ms / 1000

    def probe(address: str, port: int) -> Iterator[FindingEvent | NotCovered]:
        try:
            connection = dial(address, port, max(seconds, 1.0))
        except ConnectionRefusedError:
            return
        with connection:
            banner = read_first(connection, seconds)
            if banner and not speaks_web(banner):
                yield from _judge_banner(connection, port, banner, seconds)
                return
        yield from _ask(target, address, port, seconds)

    return sweep(target, RULES, probe, options.parallel)


def _judge_banner(connection: socket.socket, port: int, banner: bytes, seconds: float) -> Iterator[FindingEvent]:
    """A server that speaks first is known by what it says."""
    yield service_finding(OPEN_PORT, port, f"The port says: {shown(banner)}", "observed")
    if banner[:2] in _TELNET_COMMANDS:
        yield service_finding(TELNET, port, f"Telnet negotiation: {banner[:12].hex(' ')}", "observed")
    elif b"login:" in banner.lower():
        yield service_finding(TELNET, port, f"A log-in prompt in clear text: {shown(banner)}", "observed")
    elif banner[4:5] == b"\x0a" and (b"mysql" in banner or b"caching_sha2" in banner or b"MariaDB" in banner):
        yield service_finding(MYSQL, port, f"MySQL or MariaDB greeting: {shown(banner[5:])}", "observed")
    elif banner.startswith(b"RFB 0"):
        if _vnc_is_open(connection, banner, seconds):
            yield service_finding(VNC, port, f"{shown(banner)} offers security type None", "verified")
    elif banner.startswith(b"220"):
        yield from _judge_ftp(connection, port, banner, seconds)


def _judge_ftp(connection: socket.socket, port: int, banner: bytes, seconds: float) -> Iterator[FindingEvent]:
    answer = _say(connection, b"USER anonymous\r\n", seconds)  # SMTP, which also greets with 220, answers 5xx
    if answer[:3] not in (b"331", b"230", b"530", b"332") and b"ftp" not in banner.lower():
        return
    if answer[:3] in (b"331", b"230", b"332"):
        yield service_finding(FTP, port, f"{shown(banner)}; USER is answered {shown(answer)}", "verified")
    else:
        yield service_finding(FTP, port, shown(banner), "observed")
    if answer[:3] == b"331":
        answer = _say(connection, b"PASS scanner@example.invalid\r\n", seconds)
    if answer[:3] == b"230":
        yield service_finding(FTP_ANONYMOUS, port, f"Anonymous log-in: {shown(answer)}", "verified")


def _vnc_is_open(connection: socket.socket, banner: bytes, seconds: float) -> bool:
    answer = _say(connection, banner[:12], seconds)
    if banner[:12] < b"RFB 003.007\n":
        return answer[:4] == b"\x00\x00\x00\x01"
    return len(answer) > 1 and 1 in answer[1 : 1 + answer[0]]


def _ask(target: EngineTarget, address: str, port: int, seconds: float) -> Iterator[FindingEvent]:
    """A server that waits for its client is asked: Redis, memcached, then HTTP and TLS."""
    answer = _question(address, port, b"PING\r\n", seconds)
    if speaks_web(answer):
        return
    if answer.startswith((b"+PONG", b"-NOAUTH", b"-DENIED")):
        yield service_finding(OPEN_PORT, port, f"PING is answered {shown(answer)}", "observed")
        if answer.startswith(b"+PONG"):
            yield service_finding(REDIS, port, f"PING is answered {shown(answer)}", "verified")
        return
    if answer.startswith(b"ERROR"):
        answer = _question(address, port, b"version\r\n", seconds)
        yield service_finding(OPEN_PORT, port, f"The port says: {shown(answer)}", "observed")
        if answer.startswith(b"VERSION "):
            yield service_finding(MEMCACHED, port, f"version is answered {shown(answer)}", "verified")
        return
    try:
        greeting = sniff(target, address, port, seconds)
    except NoAnswerError:
        yield service_finding(OPEN_PORT, port, "The port accepts connections and answers nothing known", "observed")
        raise
    yield from _judge_greeting(greeting, port)


def _judge_greeting(greeting: Greeting, port: int) -> Iterator[FindingEvent]:
    if greeting.kind == "other":
        yield service_finding(OPEN_PORT, port, f"The port says: {shown(greeting.data)}", "observed")


def speaks_web(data: bytes) -> bool:
    """HTTP, or a TLS alert or handshake record."""
    return data.startswith((b"HTTP/", b"\x15\x03", b"\x16\x03"))


def _question(address: str, port: int, question: bytes, seconds: float) -> bytes:
    try:
        with dial(address, port, max(seconds, 1.0)) as connection:
            return _say(connection, question, seconds)
    except ConnectionRefusedError as error:
        raise NoAnswerError("the port was open and then refused a second connection") from error


def _say(connection: socket.socket, words: bytes, seconds: float) -> bytes:
    try:
        connection.sendall(words)
    except OSError:
        return b""
    return read_some(connection, seconds, 1024, until=b"\n")


def shown(data: bytes) -> str:
    """Bytes of a peer as one line of ASCII, safe to show anywhere but in HTML without escaping."""
    return ascii(data[:_EVIDENCE].decode("latin-1").strip())[1:-1]
