import pytest

from scans.engines import ports
from tests.scans.engines import servers

OPTIONS = ports.Options(wait_ms=300)
REFUSES_FTP = (b"220 files\r\n", b"530 TLS first\r\n")

# Rule: what a server says first and to each line, with the flaw and without it.
CASES = {
    "port.open": ((b"SSH-2.0-demo\r\n",), None),
    "service.telnet": ((b"\xff\xfb\x01\xff\xfb\x03\r\nlogin: ",), (b"SSH-2.0-demo\r\n",)),
    "service.ftp": ((b"220 files\r\n", b"331 Password?\r\n", b"530 No\r\n"), (b"220 mail ESMTP\r\n", b"502 What?\r\n")),
    "service.ftp-anonymous": (
        (b"220 FTP\r\n", b"331 Password?\r\n", b"230 Welcome\r\n"),
        (b"220 FTP\r\n", b"331 Password?\r\n", b"530 No\r\n"),
    ),
    "service.mysql-exposed": (
        (b"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00mysql_native_password\x00",),
        (b"J\x00\x00\x00\xffj\x04Host is not allowed to connect\x00",),
    ),
    "service.redis-unauthenticated": ((b"", b"+PONG\r\n"), (b"", b"-NOAUTH Authentication required.\r\n")),
    "service.memcached-unauthenticated": ("memcached", "memcached with SASL"),
    "service.vnc-unauthenticated": ((b"RFB 003.008\n", b"\x01\x01"), (b"RFB 003.008\n", b"\x01\x02")),
}


def memcached(version_answer):
    def talk(reader, writer):
        while line := reader.readline(1000):
            writer.write(version_answer if line.strip() == b"version" else b"ERROR\r\n")

    return servers.lines(talk)


def serve(words):
    if words == "memcached":
        return memcached(b"VERSION 1.6.18\r\n")
    if words == "memcached with SASL":
        return memcached(b"ERROR\r\n")
    return servers.speaks(*words)


def test_every_rule_of_the_engine_has_a_case_here():
    assert set(CASES) == set(ports.RULES)


@pytest.mark.parametrize("rule_key", CASES)
def test_a_risky_service_is_found_and_its_rule_covered(rule_key):
    with serve(CASES[rule_key][0]) as port:
        events = list(ports.run(servers.target(port), OPTIONS))

    assert rule_key in servers.found_rules(events)
    assert servers.covered_rules(events) == set(ports.RULES)


@pytest.mark.parametrize("rule_key", [key for key, (_, fixed) in CASES.items() if fixed])
def test_a_service_without_the_flaw_is_not_reported(rule_key):
    with serve(CASES[rule_key][1]) as port:
        events = list(ports.run(servers.target(port), OPTIONS))

    assert rule_key not in servers.found_rules(events)
    assert servers.covered_rules(events) == set(ports.RULES)


def test_a_closed_port_is_covered_and_nothing_is_found_on_it():
    events = list(ports.run(servers.target(servers.closed_port()), OPTIONS))

    assert servers.findings(events) == []
    assert servers.covered_rules(events) == set(ports.RULES)


def test_a_port_that_accepts_and_stays_silent_is_open_but_nothing_is_covered():
    with servers.raw(lambda connection: connection.recv(1) and connection.recv(10_000) and connection.recv(1)) as port:
        events = list(ports.run(servers.target(port), OPTIONS))

    assert servers.found_rules(events) == {"port.open"}
    assert set(servers.gaps(events)) == set(ports.RULES)


def test_what_a_banner_says_reaches_the_evidence_as_harmless_text():
    with servers.speaks(b"\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\x00\xff\r\n") as port:
        events = list(ports.run(servers.target(port), OPTIONS))

    (finding,) = servers.findings(events)
    assert finding.evidence.isascii()
    assert finding.evidence.isprintable()
    assert r"\x1b[2J" in finding.evidence


def test_a_port_that_is_open_only_through_a_second_address_is_found_once():
    with servers.speaks(b"SSH-2.0-demo\r\n") as port:
        both = servers.EngineTarget("127.0.0.1", ("127.0.0.9", "127.0.0.1"), (port,), "Bulkhead test")
        events = list(ports.run(both, OPTIONS))

    assert [finding.rule_key for finding in servers.findings(events)] == ["port.open"]
    assert servers.covered_rules(events) == set(ports.RULES)
