"""Certificates of the weak targets, made afresh at each start; keys never leave the directory (mode 0600)."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def make_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Bulkhead demo authority")
    builder = _builder(name, name, key, timedelta(0))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(key, builder.sign(key, hashes.SHA256()))


def make_key(rsa_bits: int | None = None) -> Key:
    if rsa_bits is None:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, rsa_bits)  # noqa: S505  a weak key is what is asked for


def make_certificate(
    key: Key, host: str, authority: Authority | None, shift: timedelta = timedelta(0)
) -> x509.Certificate:
    """
    For a host name or a literal address, signed by ``authority`` or else by itself, valid for ten days.

    ``shift`` moves those days: a certificate shifted by minus thirty days has expired.
    """
    issuer = authority.certificate.subject if authority else _name(host)
    builder = _builder(_name(host), issuer, key, shift)
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative_name(host)]), critical=False)
    if authority:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(authority.key if authority else key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, shift: timedelta) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(hours=1) + shift
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=10))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_context(directory: Path, key: Key, certificate: x509.Certificate) -> ssl.SSLContext:
    """Python's own good defaults; the weak targets lower them."""
    path = directory / f"{certificate.serial_number:x}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL would not load the key otherwise
    context.load_cert_chain(path)
    return context
