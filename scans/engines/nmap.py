"""Service detection and TLS enumeration by nmap, where it is installed."""

import ctypes
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from scans.engines.base import (
    Covered,
    EngineTarget,
    Event,
    FindingEvent,
    NotCovered,
    Progress,
    Rule,
    check_choice,
    check_int,
    require,
    rule_table,
)
from scans.engines.nmap_xml import MAX_BYTES, NmapOutputError, Service, parse_nmap
from scans.engines.rules import (
    ANONYMOUS_CIPHER,
    FTP,
    MYSQL,
    NO_FORWARD_SECRECY,
    NULL_CIPHER,
    OPEN_PORT,
    SERVICE_RULES,
    TELNET,
    TLS10,
    TLS11,
    TLS_RULES,
    service_finding,
    tls_finding,
)

NAME = "nmap"
INTRUSIVENESS = "safe_active"

DATABASE = Rule(
    "service.database-exposed",
    "A database server can be reached from the scanner's network",
    "medium",
    668,
    "Bind the database to a private interface, or admit only the application's hosts.",
)
SSL3 = Rule(
    "tls.version.ssl3",
    "SSL 3 is accepted",
    "high",
    326,
    "Accept TLS 1.2 and 1.3 only.",
)
BROKEN_CIPHER = Rule(
    "tls.cipher.broken",
    "Broken ciphers are accepted",
    "medium",
    327,
    "Remove RC4, DES, 3DES and export suites from the server's list.",
)

_PORT_RULES = SERVICE_RULES | rule_table(DATABASE)
_HANDSHAKE_RULES = TLS_RULES | rule_table(SSL3, BROKEN_CIPHER)
RULES = _PORT_RULES | _HANDSHAKE_RULES

_TIMINGS = {"polite": "-T2", "normal": "-T3", "fast": "-T4"}
_BY_NAME = {"telnet": TELNET, "ftp": FTP, "mysql": MYSQL} | dict.fromkeys(
    ("postgresql", "mongodb", "ms-sql-s", "oracle-tns", "cassandra", "couchdb"), DATABASE
)
_BY_VERSION = {"SSLv3": SSL3, "TLSv1.0": TLS10, "TLSv1.1": TLS11}
_BY_CIPHER = (
    (NULL_CIPHER, re.compile("_WITH_NULL_")),
    (ANONYMOUS_CIPHER, re.compile("_anon_", re.IGNORECASE)),
    (BROKEN_CIPHER, re.compile("_(RC4|3?DES|EXPORT|RC2)_?")),
    (NO_FORWARD_SECRECY, re.compile("^TLS_RSA_WITH_(?!NULL|RC4|3?DES|RC2)")),
)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    """``version_intensity``: how many questions nmap asks to find out what a port speaks, as its own option."""

    timing: str = "normal"
    version_intensity: int = 2
    seconds_per_host: int = 300

    def __post_init__(self) -> None:
        check_choice("timing", self.timing, tuple(_TIMINGS))
        check_int("version_intensity", self.version_intensity, 0, 9)
        check_int("seconds_per_host", self.seconds_per_host, 10, 3600)


def version() -> str:
    path = shutil.which(NAME)
    require(path is not None, "nmap is not installed")
    output = subprocess.run([str(path), "--version"], capture_output=True, timeout=20, check=False)  # noqa: S603
    match = re.search(rb"Nmap version ([\w.+-]{1,40})", output.stdout)
    return match[1].decode("ascii") if match else "unknown"


def available() -> bool:
    return shutil.which(NAME) is not None


def command(target: EngineTarget, options: Options, addresses: list[str], *what: str) -> list[str]:
    """Literal addresses after ``--``, so that nmap's ranges and options have no way in; names are never resolved."""
    path = shutil.which(NAME)
    require(path is not None, "nmap is not installed")
    ports = ",".join(map(str, target.ports))
    arguments = [str(path), "-n", "-Pn", "-sT", "--unprivileged", _TIMINGS[options.timing], *what]
    arguments += ["--host-timeout", f"{options.seconds_per_host}s", "-p", f"T:{ports}", "-oX", "-"]
    if ":" in addresses[0]:
        arguments.append("-6")
    return [*arguments, "--", *addresses]


def run(target: EngineTarget, options: Options) -> Iterator[Event]:
    intensity = str(options.version_intensity)
    yield Progress("detecting services", 0, 2)
    services, service_fault = _scan(target, options, "-sV", "--version-intensity", intensity)
    yield Progress("enumerating TLS", 1, 2)
    ciphers, cipher_fault = _scan(target, options, "--script", "ssl-enum-ciphers")
    for port in target.ports:
        gaps: dict[str, str] = {}
        for address in target.addresses:
            seen, tls = _at(services, address, port), _at(ciphers, address, port)
            yield from _judge_service(seen, port)
            yield from _judge_tls(tls, port)
            reason = service_fault or _service_gap(seen)
            gaps.update(dict.fromkeys(_PORT_RULES, reason) if reason else {})
            reason = cipher_fault or _tls_gap(tls, seen)
            gaps.update(dict.fromkeys(_HANDSHAKE_RULES, reason) if reason else {})
        for key in RULES:
            yield NotCovered(key, port, gaps[key]) if key in gaps else Covered(key, port)


Services = dict[tuple[str, int], Service]


def _scan(target: EngineTarget, options: Options, *what: str) -> tuple[Services, str]:
    """Both address families, and why the result proves nothing, if it does not."""
    services: Services = {}
    for is_v6 in (False, True):
        addresses = [address for address in target.addresses if (":" in address) == is_v6]
        if addresses:
            try:
                services |= parse_nmap(_output(command(target, options, addresses, *what)))
            except NmapOutputError as error:
                return {}, f"nmap: {error}"
    return services, ""


def _output(arguments: list[str]) -> bytes:
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    process = subprocess.Popen(  # noqa: S603  an argument list of our own making
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509  the child that runs engines has one thread here
    )
    assert process.stdout is not None
    with process:
        output = process.stdout.read(MAX_BYTES + 1)
        if len(output) > MAX_BYTES:
            process.kill()
    if process.returncode != 0:
        raise NmapOutputError(f"exit code {process.returncode}")
    return output


def _at(services: Services, address: str, port: int) -> Service | None:
    return services.get((address, port)) or services.get((address, 0))


def _judge_service(service: Service | None, port: int) -> Iterator[FindingEvent]:
    if service is None or service.state != "open" or not service.is_identified or _is_web(service):
        return
    evidence = f"nmap: {service.name} {service.product}".strip()
    yield service_finding(OPEN_PORT, port, evidence, "observed")
    rule = _BY_NAME.get(service.name)
    if rule and not (rule is FTP and service.is_tls):
        yield service_finding(rule, port, evidence, "observed")


def _is_web(service: Service) -> bool:
    return service.is_tls or service.name.startswith(("http", "ssl")) or r"HTTP/1\." in service.fingerprint


def _service_gap(service: Service | None) -> str:
    if service is None:
        return "nmap reported nothing of this port"
    if service.state == "closed":
        return ""
    if service.state != "open":
        return f"the port is {service.state[:20]}"
    return "" if service.is_identified or _is_web(service) else "nmap did not identify the service"


def _judge_tls(service: Service | None, port: int) -> Iterator[FindingEvent]:
    offered = service.tls_ciphers if service else {}
    for name, rule in _BY_VERSION.items():
        if name in offered:
            yield tls_finding(rule, port, f"nmap: {name} with {' '.join(offered[name][:5])}")
    names = sorted({cipher for ciphers in offered.values() for cipher in ciphers})
    for rule, pattern in _BY_CIPHER:
        weak = [name for name in names if pattern.search(name)]
        if weak:
            yield tls_finding(rule, port, f"nmap: {' '.join(weak[:10])}")


def _tls_gap(tls: Service | None, service: Service | None) -> str:
    if tls is None:
        return "nmap reported nothing of this port"
    if tls.state == "closed" or tls.tls_ciphers:
        return ""
    if tls.state != "open":
        return f"the port is {tls.state[:20]}"
    speaks_clear = service is not None and (service.is_identified or _is_web(service)) and not service.is_tls
    return "" if speaks_clear else "nmap enumerated no TLS here"
