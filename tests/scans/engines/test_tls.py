import contextlib
import ssl
import time
import warnings
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from scans.engines import tls
from scans.engines.certificates import CertificateError, parse_certificate
from scans.weak_targets import certificates
from scans.weak_targets.server import Reply, SiteApp
from tests.scans.engines import servers

OPTIONS = tls.Options(seconds_per_handshake=2)
APP = SiteApp(lambda request: Reply("hello"))


@pytest.fixture(scope="module")
def authority():
    return certificates.make_authority()


@pytest.fixture(scope="module")
def strong_rsa():
    return certificates.make_key(2048)


@pytest.fixture
def scan(tmp_path, authority):
    """Scan a server with this certificate (a good one by default) and these changes to its context."""

    def scan(key=None, certificate=None, ca_pem=authority.pem, change=lambda context: None):
        key = key or certificates.make_key()
        certificate = certificate or certificates.make_certificate(key, servers.ADDRESS, authority)
        context = certificates.server_context(tmp_path, key, certificate)
        change(context)
        with servers.site(APP, context) as port:
            return list(tls.run(servers.target(port, ca_pem=ca_pem), OPTIONS))

    return scan


def accepts(ciphers, low=ssl.TLSVersion.TLSv1_2, high=ssl.TLSVersion.MAXIMUM_SUPPORTED):
    def change(context):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = low, high
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")

    return change


def test_a_good_server_has_no_finding_and_every_rule_is_covered(scan):
    events = scan()

    assert servers.findings(events) == []
    assert servers.covered_rules(events) == set(tls.RULES)


@pytest.mark.parametrize(
    ("rule_key", "days"), [("tls.certificate.expired", -30), ("tls.certificate.not-yet-valid", 30)]
)
def test_a_certificate_outside_its_dates_is_found_and_nothing_else_is(scan, authority, rule_key, days):
    key = certificates.make_key()
    certificate = certificates.make_certificate(key, servers.ADDRESS, authority, timedelta(days=days))

    events = scan(key, certificate)

    assert servers.found_rules(events) == {rule_key}
    assert servers.covered_rules(events) == set(tls.RULES)


def test_a_self_signed_certificate_is_found(scan):
    key = certificates.make_key()

    events = scan(key, certificates.make_certificate(key, servers.ADDRESS, None))

    assert servers.found_rules(events) == {"tls.certificate.self-signed"}


def test_an_authority_that_nobody_trusts_is_found(scan):
    events = scan(ca_pem="")

    assert servers.found_rules(events) == {"tls.certificate.untrusted"}


def test_a_certificate_for_another_name_is_found_even_when_it_has_expired(scan, authority):
    key = certificates.make_key()
    certificate = certificates.make_certificate(key, "other.example", authority, timedelta(days=-30))

    events = scan(key, certificate)

    assert servers.found_rules(events) == {"tls.certificate.name-mismatch", "tls.certificate.expired"}


def test_a_short_key_is_found(scan, authority):
    key = certificates.make_key(1024)

    certificate = certificates.make_certificate(key, servers.ADDRESS, authority)

    events = scan(key, certificate, change=accepts("ECDHE+AESGCM"))

    assert servers.found_rules(events) == {"tls.certificate.weak-key"}


def test_a_certificate_signed_with_sha1_is_found(scan):
    sha256_with_rsa, sha1_with_rsa = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05"))
    key = certificates.make_key(1024)
    good = certificates.make_certificate(key, servers.ADDRESS, None)
    der = certificates.make_certificate(key, servers.ADDRESS, None).public_bytes(serialization.Encoding.DER)
    old = x509.load_der_x509_certificate(der.replace(sha256_with_rsa, sha1_with_rsa))

    events = scan(key, old)

    assert "tls.certificate.weak-signature" not in servers.found_rules(scan(key, good))
    assert "tls.certificate.weak-signature" in servers.found_rules(events)


@pytest.mark.parametrize(
    ("rule_key", "version"),
    [("tls.version.tls10", ssl.TLSVersion.TLSv1), ("tls.version.tls11", ssl.TLSVersion.TLSv1_1)],
)
def test_an_old_version_is_found_on_the_server_that_accepts_it(scan, rule_key, version):
    events = scan(change=accepts("ECDHE:!eNULL", low=version, high=version))

    assert servers.found_rules(events) == {rule_key}


@pytest.mark.parametrize(
    ("rule_key", "ciphers"),
    [
        ("tls.cipher.null", "ECDHE+AESGCM:ECDHE-ECDSA-NULL-SHA:ECDHE-RSA-NULL-SHA"),
        ("tls.cipher.anonymous", "ECDHE+AESGCM:AECDH-AES128-SHA"),
        ("tls.cipher.no-forward-secrecy", "ECDHE+AESGCM:AES128-GCM-SHA256"),
    ],
)
def test_a_weak_cipher_is_found_on_the_server_that_accepts_it(scan, authority, strong_rsa, rule_key, ciphers):
    certificate = certificates.make_certificate(strong_rsa, servers.ADDRESS, authority)

    events = scan(strong_rsa, certificate, change=accepts(ciphers))

    assert servers.found_rules(events) == {rule_key}


def test_every_rule_of_the_engine_is_found_by_a_test_here():
    found_here = {
        *(f"tls.certificate.{name}" for name in ("expired", "not-yet-valid", "self-signed", "untrusted")),
        *(f"tls.certificate.{name}" for name in ("name-mismatch", "weak-key", "weak-signature")),
        *(f"tls.version.{name}" for name in ("tls10", "tls11")),
        *(f"tls.cipher.{name}" for name in ("null", "anonymous", "no-forward-secrecy")),
    }
    assert found_here == set(tls.RULES)


def test_what_this_openssl_cannot_offer_is_not_covered():
    peer = tls._Peer(servers.target(1), servers.ADDRESS, 1, 1)

    (gap,) = tls._judge_ciphers(peer, tls.NULL_CIPHER, "no-such-cipher")

    assert "cannot offer" in gap.reason


def test_ports_without_tls_are_covered_and_clean():
    with servers.site(APP) as web, servers.speaks(b"SSH-2.0-demo\r\n") as shell:
        for port in (web, shell, servers.closed_port()):
            events = list(tls.run(servers.target(port), OPTIONS))

            assert servers.findings(events) == []
            assert servers.covered_rules(events) == set(tls.RULES)


def test_a_server_that_may_offer_starttls_is_not_covered():
    with servers.speaks(b"220 mail.example ESMTP\r\n") as port:
        events = list(tls.run(servers.target(port), OPTIONS))

    assert set(servers.gaps(events)) == set(tls.RULES)


def say_garbage(connection):
    connection.recv(5000)
    connection.sendall(b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + b"\xff" * 5000)


def drip_records(connection):
    connection.recv(5000)
    with contextlib.suppress(OSError):
        connection.sendall(b"\x16\x03\x03\x3f\xff")
        for _ in range(100):
            connection.sendall(b"\x02")
            time.sleep(0.1)


@pytest.mark.parametrize("handle", [say_garbage, drip_records, lambda c: time.sleep(10), lambda c: c.recv(1)])
def test_a_hostile_tls_server_costs_bounded_time_and_covers_nothing(handle):
    started = time.monotonic()
    with servers.raw(handle) as port:
        events = list(tls.run(servers.target(port), tls.Options(seconds_per_handshake=1)))

    assert servers.findings(events) == []
    assert set(servers.gaps(events)) == set(tls.RULES)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("cut", [0, 1, 2, 40, 100, 200])
def test_a_certificate_that_breaks_off_is_refused(authority, cut):
    der = ssl.PEM_cert_to_DER_cert(authority.pem)

    assert parse_certificate(der).key_bits == 256
    with pytest.raises(CertificateError):
        parse_certificate(der[:cut])


def test_a_certificate_with_any_byte_changed_is_read_or_refused_and_nothing_else(authority):
    der = bytearray(ssl.PEM_cert_to_DER_cert(authority.pem))
    for position in range(len(der)):
        for value in (0x00, 0x7F, 0x80, 0x84, 0xFF):
            changed = bytes(der[:position]) + bytes([value]) + bytes(der[position + 1 :])
            with contextlib.suppress(CertificateError):
                parse_certificate(changed)
