"""Where an owner may make the web processes ask: by address, whatever name it has, and by certificate."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenants.accounts import outside
from tenants.accounts.outside import OutsideError, addresses_of, ask_json, require_url

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fe80::1",
    "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "::ffff:169.254.169.254", "0.0.0.0", "0.1.2.3", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "::", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "ff02::1", "fec0::1",
    "100::1", "4000::1", "192.88.99.1",
]  # fmt: skip


def is_asked(address):
    try:
        return addresses_of(address) == [address]
    except OutsideError:
        return False


@pytest.mark.parametrize("is_allowed", [False, True], ids=["by default", "private ones allowed"])
def test_which_addresses_may_be_asked(settings, is_allowed):
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = is_allowed

    assert [address for address in PUBLIC + PRIVATE + NEVER if is_asked(address)] == PUBLIC + (
        PRIVATE if is_allowed else []
    )


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"])
def test_another_spelling_of_an_address_is_judged_as_what_it_is(host):
    with pytest.raises(OutsideError):
        addresses_of(host)


def test_one_address_that_may_not_be_asked_refuses_the_name(monkeypatch):
    answers = [(2, 1, 6, "", (address, 0)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(outside.socket, "getaddrinfo", lambda *args, **kwargs: answers)

    with pytest.raises(OutsideError, match="10.0.0.1"):
        addresses_of("mixed.example")


def test_the_connection_goes_to_the_address_that_was_judged(monkeypatch):
    """Whatever the name means when it is asked again."""
    asked, connected = [], []

    def resolve(host, *args, **kwargs):
        asked.append(host)
        return [(2, 1, 6, "", ("8.8.8.8", 0))]

    def connect(address, *args):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(outside.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(outside.socket, "create_connection", connect)
    with pytest.raises(OutsideError):
        ask_json("GET", "https://id.example.com/keys")

    assert (asked, connected) == (["id.example.com"], [("8.8.8.8", 443)])


URLS = [
    "http://id.example.com/", "http://127.0.0.1/", "ftp://id.example.com/", "file:///etc/passwd", "//id.example.com/",
    "id.example.com", "https://", "https:///x", "https://a@id.example.com/", "https://a:b@id.example.com/", "",
    "https://id.example.com/#x", "https://id.example.com:x/", "https://id.example.com:99999/", "https://[::1/", None, 1,
    "https://id.example.com/\n", "https://id.example.com/ x", "https://id.\u0435xample.com/", "https://a\\@b/", [],
    "https://id.example.com/" + "x" * 500, "HTTPS:id.example.com",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS, ids=lambda url: ascii(url)[:40])
def test_what_is_no_address_of_https_is_refused(url):
    with pytest.raises(OutsideError):
        require_url(url)


def test_without_tls_this_machine_alone_is_asked_and_only_where_that_is_allowed(settings):
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = True

    assert require_url("http://127.0.0.1:8080/x").port == 8080
    for url in ("http://10.0.0.1/", "http://id.example.com/", "http://127.0.0.2/"):
        with pytest.raises(OutsideError):
            require_url(url)


@pytest.fixture
def secure_server(tmp_path, settings, monkeypatch):
    """One answer over TLS, with a certificate of the name that the test gives it; its authority's file."""
    settings.BULKHEAD_ALLOW_PRIVATE_PROVIDERS = True
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(name):
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        write_certificate(name, certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def answer():
            connection, _ = listening.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(4096)
                    secure.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"keys": []}')
            except OSError:
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return certificate, f"https://localhost:{listening.getsockname()[1]}/keys"

    with listening:
        yield serve


def write_certificate(name, certificate, key_file):
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


@pytest.mark.parametrize(
    ("name", "is_trusted", "is_answered"),
    [("localhost", True, True), ("localhost", False, False), ("evil.example", True, False)],
    ids=["its own certificate", "of nobody's authority", "of another name"],
)
def test_over_tls_the_certificate_is_of_the_name_and_of_an_authority(
    secure_server, monkeypatch, name, is_trusted, is_answered
):
    certificate, url = secure_server(name)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        answer = ask_json("GET", url)
    except OutsideError:
        answer = None

    assert answer == ({"keys": []} if is_answered else None)


def test_no_more_are_asked_at_once_than_there_are_turns(settings, monkeypatch):
    monkeypatch.setattr(outside, "_turns", threading.BoundedSemaphore(1))
    monkeypatch.setattr(outside, "SILENCE_SECONDS", 0.01)
    with outside._turns, pytest.raises(outside.TooBusyError):
        ask_json("GET", "https://id.example.com/keys")
