"""Refusals that a wrong filter could turn into traffic run in an empty network namespace."""

import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scans.addresses import AddressRefused, classify, normalise_host, resolve_target

ROOT = Path(__file__).resolve().parents[2]
HOSTS = """
127.0.0.1 local.test
10.1.2.3 private.test
93.184.216.34 public.test mixed.test
10.0.0.1 mixed.test
169.254.169.254 metadata.test
2606:2800:21f::1 public6.test
::ffff:10.1.2.3 mapped.test
64:ff9b::a9fe:a9fe nat64.test
"""
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from scans.addresses import AddressRefused, resolve_target
answers = []
for host, options in json.load(sys.stdin):
    try:
        answers.append(list(resolve_target(host, **options)))
    except AddressRefused as refusal:
        answers.append(refusal.reason_code)
print(json.dumps(answers))
"""


SILENT = """
import fcntl, socket, struct, sys, time
sys.path.insert(0, sys.argv[1])
from scans.addresses import AddressRefused, resolve_target
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(server, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS: up
server.bind(("127.0.0.1", 53))
began_at = time.monotonic()
try:
    resolve_target("slow.test", seconds=1)
except AddressRefused as refusal:
    print(refusal.reason_code, server.recv(512)[12:22], time.monotonic() - began_at)
"""


@pytest.fixture(scope="module")
def resolve_alone(tmp_path_factory):
    """Resolves in a namespace without any network, where the names above are all there are."""
    hosts = tmp_path_factory.mktemp("etc") / "hosts"
    hosts.write_text(HOSTS)

    def resolve(*questions):
        inner = f'mount --bind {hosts} /etc/hosts && exec "$@"'
        argv = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", inner, "sh"]
        argv += [sys.executable, "-I", "-c", SCRIPT, str(ROOT)]
        done = subprocess.run(argv, input=json.dumps(questions), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return resolve


REFUSED = {
    "metadata_address": [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "2606:2800:21f::5efe:a9fe:a9fe",
        "metadata.test",
        "nat64.test",
    ],
    "loopback_address": ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "local.test", "64:ff9b::7f00:1"],
    "private_address": [
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12::1"),
        *("::ffff:10.0.0.1", "2002:a00:1::", "private.test", "mapped.test", "mixed.test"),
    ],
    "reserved_address": [
        *("0.0.0.0", "0.1.2.3", "169.254.1.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7"),
        *("203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::5", "fe80::1", "fec0::1"),
        *("ff02::1", "2001:db8::1", "2001::1", "3fff::1", "5f00::1", "100::1", "64:ff9b:1::1", "4000::1"),
    ],
    "invalid_host": [
        *("127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0251.0376.0251.0376", "1.2.3.4.", "127.0.0.1."),
        *("1.2.3.0/24", "1.2.3.1-9", "1.2.3.*", "10.0.0.1,2", "-iL", "--script=x", "-sC.test", "user@public.test"),
        *("public.test:80", "http://public.test", "public.test/x", "public.test?x", "public.test#x", "[::1]"),
        *(
            "fe80::1%eth0",
            "::1%lo",
            "pub lic.test",
            "public.test\n",
            "public.test\0",
            "public..test",
            ".",
            "",
            "a" * 64,
        ),
        *("ｐublic.test", "public。test", "pub\u200blic.test", "pub\u00adlic.test", "publ\u0456c.test", "１２７.0.0.1"),
        *("①.test", "fa\u00df.test", "xn--zzzz.test", "xn--.test", "ab--c.test", "under_score.test", "a." * 127 + "a"),
    ],
    "unresolvable": ["nowhere.test", "example.com"],
}


def test_every_forbidden_host_is_refused_for_its_own_reason(resolve_alone):
    questions = [(host, code) for code, hosts in REFUSED.items() for host in hosts]

    answers = resolve_alone(*[(host, {}) for host, _ in questions])

    wrong = [(host, code, answer) for (host, code), answer in zip(questions, answers, strict=True) if answer != code]
    assert wrong == []


def test_what_is_public_resolves_to_literal_addresses_in_the_same_place(resolve_alone):
    hosts = ["public.test", "PUBLIC.test.", "93.184.216.34", "public6.test", "2606:2800:021f:0::1", "::ffff:8.8.8.8"]

    answers = resolve_alone(*[(host, {}) for host in hosts])

    v4, v6 = ["93.184.216.34"], ["2606:2800:21f::1"]
    assert answers == [v4, v4, v4, v6, v6, ["8.8.8.8"]]


def test_loopback_and_private_ranges_are_unlocked_apart_and_the_rest_never(resolve_alone):
    loopback, private = {"allow_loopback": True}, {"allow_private": True}
    both = {**loopback, **private}
    never = [host for code in ("metadata_address", "reserved_address") for host in REFUSED[code]]

    answers = resolve_alone(
        ("local.test", loopback),
        ("::ffff:127.0.0.1", loopback),
        ("local.test", private),
        ("private.test", private),
        ("private.test", loopback),
        ("mixed.test", both),
        ("64:ff9b::7f00:1", both),
        ("2002:a00:1::", both),
        *[(host, both) for host in never],
    )

    assert answers[:6] == [
        ["127.0.0.1"],
        ["127.0.0.1"],
        "loopback_address",
        ["10.1.2.3"],
        "private_address",
        answers[5],
    ]
    assert sorted(answers[5]) == ["10.0.0.1", "93.184.216.34"]
    assert answers[6:8] == ["loopback_address", "private_address"]
    assert set(answers[8:]) == {"metadata_address", "reserved_address"}


def test_a_name_server_that_does_not_answer_is_waited_for_no_longer_than_said(tmp_path):
    """The resolver by itself would wait for thirty seconds here."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    inner = f'mount --bind {tmp_path}/resolv.conf "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    argv = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", inner, "sh"]
    argv += [sys.executable, "-I", "-c", SILENT, str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    code, *_, seconds = done.stdout.split()
    assert code == "unresolvable" and r"\x04slow\x04test" in done.stdout and 1 <= float(seconds) < 20


def test_the_services_own_networks_are_refused_even_where_they_are_public():
    own = [ipaddress.ip_network("8.8.8.0/24")]

    with pytest.raises(AddressRefused) as refusal:
        resolve_target("8.8.8.8", own_networks=own)

    assert refusal.value.reason_code == "own_infrastructure"
    assert resolve_target("8.8.4.4", own_networks=own) == ("8.8.4.4",)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Shop.Example.COM", "shop.example.com"),
        ("shop.example.", "shop.example"),
        ("localhost", "localhost"),
        ("3com.example", "3com.example"),
        ("1-2.example", "1-2.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("пример.example", "xn--e1afmkfd.example"),
        ("日本語.example", "xn--wgv71a119e.example"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_host_has_one_spelling(text, host):
    assert normalise_host(text) == host
    assert normalise_host(host) == host


@pytest.mark.parametrize("value", [None, 7, b"shop.example", ["shop.example"]])
def test_what_is_not_text_is_no_host(value):
    with pytest.raises(AddressRefused):
        normalise_host(value)


def test_every_public_looking_ipv6_block_outside_global_unicast_is_reserved():
    for first in range(0, 0x10000, 0x100):
        address = ipaddress.IPv6Address(first << 112 | 0x1234 << 64 | 0x5678)
        if not 0x2000 <= first < 0x4000:
            assert classify(address) != "public"
