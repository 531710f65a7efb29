from dataclasses import replace

import pytest

from scans.engines import nmap, ports
from scans.engines.base import Covered, EngineTarget, NotCovered
from scans.engines.nmap_xml import MAX_DEPTH, NmapOutputError, parse_nmap
from scans.engines.runner import Limits, run_engine
from tests.scans.engines import servers

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nmaprun>\n<nmaprun scanner="nmap">'
HOST = (
    b'<host><status state="up"/><address addr="127.0.0.1" addrtype="ipv4"/><ports>'
    b'<port protocol="tcp" portid="23"><state state="open"/>'
    b'<service name="telnet" product="demo" version="1" method="probed"/></port>'
    b'<port protocol="tcp" portid="24"><state state="filtered"/></port></ports></host>'
)
TAIL = b'<runstats><finished time="1" exit="success"/></runstats></nmaprun>'
OPTIONS = nmap.Options(timing="fast", version_intensity=0)


def test_nmaps_own_document_type_line_is_harmless():
    services = parse_nmap(HEAD + HOST + TAIL)

    assert services["127.0.0.1", 23].name == "telnet"
    assert services["127.0.0.1", 23].is_identified
    assert services["127.0.0.1", 24].state == "filtered"


@pytest.mark.parametrize("cut", range(1, len(HEAD + HOST + TAIL), 7))
def test_output_that_breaks_off_anywhere_is_refused(cut):
    with pytest.raises(NmapOutputError):
        parse_nmap((HEAD + HOST + TAIL)[:-cut])


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"not xml",
        HEAD + HOST + TAIL.replace(b"success", b"error"),
        HEAD + HOST + b"</nmaprun>",
        b'<!DOCTYPE nmaprun [<!ENTITY a "b">]><nmaprun>&a;' + HOST + TAIL,
        b'<!DOCTYPE nmaprun [<!ENTITY a "b">]><nmaprun>' + HOST + TAIL,
        b'<!DOCTYPE nmaprun [<!ENTITY a SYSTEM "file:///etc/passwd">]><nmaprun>&a;' + HOST + TAIL,
        b"<!DOCTYPE nmaprun [<!ELEMENT nmaprun ANY>]><nmaprun>" + HOST + TAIL,
        b'<!DOCTYPE nmaprun SYSTEM "http://127.0.0.1/x.dtd"><nmaprun>' + HOST + TAIL,
        b'<!DOCTYPE nmaprun [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><nmaprun>' + HOST + TAIL,
        HEAD + b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1) + TAIL,
        HEAD + b"<a/>" * 200_001 + TAIL,
        HEAD + HOST.replace(b'"23"', b'"x"') + TAIL,
    ],
)
def test_hostile_or_failed_output_is_refused(xml):
    with pytest.raises(NmapOutputError):
        parse_nmap(xml)


def test_a_host_that_nmap_gave_up_on_is_not_in_the_result():
    assert parse_nmap(HEAD + HOST.replace(b"<host>", b'<host timedout="true">') + TAIL) == {}


def test_targets_follow_a_double_dash_and_ports_are_the_listed_ones():
    target = EngineTarget("shop.example", ("127.0.0.1", "127.0.0.2"), (23, 80), "Bulkhead test")

    argv = nmap.command(target, OPTIONS, ["127.0.0.1", "127.0.0.2"], "-sV")

    assert argv[argv.index("--") :] == ["--", "127.0.0.1", "127.0.0.2"]
    assert argv[argv.index("-p") + 1] == "T:23,80"
    assert {"-n", "-Pn", "-sT"} <= set(argv)
    assert "shop.example" not in argv


def telnet(connection):
    connection.sendall(b"\xff\xfb\x01\xff\xfb\x03\r\nlogin: ")
    connection.settimeout(0.5)
    connection.recv(1000)


def test_a_telnet_server_is_found_through_the_child_as_the_ports_engine_finds_it():
    with servers.raw(telnet) as port:
        target = servers.target(port, servers.closed_port())
        *events, result = run_engine(nmap, target, OPTIONS, Limits(), lambda: False)
        own = list(ports.run(target, ports.Options(wait_ms=300)))

    assert (result.outcome, result.healthy) == ("completed", True)
    by_nmap, by_us = ({replace(finding, evidence="") for finding in servers.findings(e)} for e in (events, own))
    assert {finding.rule_key for finding in by_nmap} == {"service.telnet", "port.open"}
    assert by_nmap == by_us
    assert Covered("service.telnet", port) in result.coverage


def test_old_tls_versions_are_found_and_a_good_server_has_none(intranet, vault):
    old, new = (
        nmap._scan(running.target, OPTIONS, "--script", "ssl-enum-ciphers")[0][
            running.target.addresses[0], running.ports["https"]
        ]
        for running in (intranet, vault)
    )

    assert {finding.rule_key for finding in nmap._judge_tls(old, 1)} == {"tls.version.tls10", "tls.version.tls11"}
    assert new.tls_ciphers
    assert list(nmap._judge_tls(new, 1)) == []


def test_output_that_proves_nothing_covers_nothing(tmp_path, monkeypatch):
    program = tmp_path / "nmap"
    program.write_text("#!/bin/sh\necho '<nmaprun>'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    events = list(nmap.run(servers.target(23, 80), OPTIONS))

    assert {type(event) for event in events[2:]} == {NotCovered}
    assert len(events[2:]) == 2 * len(nmap.RULES)
