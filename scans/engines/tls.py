"""Judges certificates and old or weak ways of speaking TLS, by handshakes alone."""

import platform
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from scans.engines.base import (
    EngineInputError,
    EngineTarget,
    Event,
    FindingEvent,
    NotCovered,
    Rule,
    check_int,
    rule_table,
)
from scans.engines.certificates import CertificateError, parse_certificate
from scans.engines.net import (
    STARTTLS_GREETINGS,
    NoAnswerError,
    handshake,
    lenient_context,
    reason_of,
    set_versions,
    sniff,
)
from scans.engines.rules import (
    ANONYMOUS_CIPHER,
    NO_FORWARD_SECRECY,
    NULL_CIPHER,
    TLS10,
    TLS11,
    TLS_RULES,
    tls_finding,
)
from scans.engines.sweep import sweep

NAME = "tls"
INTRUSIVENESS = "passive"

EXPIRED = Rule(
    "tls.certificate.expired",
    "The certificate has expired",
    "high",
    298,
    "Renew the certificate, and let that happen automatically.",
)
NOT_YET_VALID = Rule(
    "tls.certificate.not-yet-valid",
    "The certificate is not valid yet",
    "medium",
    298,
    "Install a certificate that is valid now; check the clock of who issued it.",
)
SELF_SIGNED = Rule(
    "tls.certificate.self-signed",
    "The certificate is signed by itself",
    "medium",
    295,
    "Use a certificate of an authority that clients trust.",
)
UNTRUSTED = Rule(
    "tls.certificate.untrusted",
    "The certificate's authority is not trusted",
    "medium",
    295,
    "Use a certificate of an authority that clients trust, and send the intermediate certificates.",
)
NAME_MISMATCH = Rule(
    "tls.certificate.name-mismatch",
    "The certificate is for another name",
    "medium",
    297,
    "Issue the certificate for the name (or address) under which the service is reached.",
)
WEAK_KEY = Rule(
    "tls.certificate.weak-key",
    "The certificate's key is too short",
    "high",
    326,
    "Use RSA with at least 2048 bits, or an elliptic curve with at least 256.",
)
WEAK_SIGNATURE = Rule(
    "tls.certificate.weak-signature",
    "The certificate is signed with a broken hash",
    "medium",
    328,
    "Have the certificate issued again, signed with SHA-256 or better.",
)

CERTIFICATE_RULES = rule_table(EXPIRED, NOT_YET_VALID, SELF_SIGNED, UNTRUSTED, NAME_MISMATCH, WEAK_KEY, WEAK_SIGNATURE)
RULES = CERTIFICATE_RULES | TLS_RULES

_OLD_VERSIONS = ((TLS10, ssl.TLSVersion.TLSv1), (TLS11, ssl.TLSVersion.TLSv1_1))
_WEAK_CIPHERS = ((NULL_CIPHER, "eNULL"), (ANONYMOUS_CIPHER, "aNULL"), (NO_FORWARD_SECRECY, "kRSA:!eNULL"))

# From OpenSSL's x509_vfy.h. Names are checked before dates, and trust before both.
_V_SELF_SIGNED = 18
_V_UNTRUSTED = (2, 19, 20, 21, 27)
_V_DATES = (9, 10)
_V_NAMES = (62, 64)
# The client could not even offer it: nothing was tested.
_CANNOT_OFFER = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "NO_CIPHER_MATCH")


@dataclass(frozen=True)
class Options:
    seconds_per_handshake: int = 5
    parallel: int = 4

    def __post_init__(self) -> None:
        check_int("seconds_per_handshake", self.seconds_per_handshake, 1, 30)
        check_int("parallel", self.parallel, 1, 16)


def version() -> str:
    return f"python {platform.python_version()}, {ssl.OPENSSL_VERSION}"[:100]


def available() -> bool:
    return True


def run(target: EngineTarget, options: Options) -> Iterator[Event]:
    trusting = _trusting_context(target.ca_pem)

    def probe(address: str, port: int) -> Iterator[FindingEvent | NotCovered]:
        greeting = sniff(target, address, port, options.seconds_per_handshake)
        if greeting.kind == "other" and greeting.data.startswith(STARTTLS_GREETINGS):
            raise NoAnswerError("TLS after STARTTLS is not tested")
        if greeting.kind != "tls":
            return
        peer = _Peer(target, address, port, options.seconds_per_handshake)
        yield from _judge_certificate(peer, trusting)
        for rule, old in _OLD_VERSIONS:
            yield from _judge_version(peer, rule, old)
        for rule, ciphers in _WEAK_CIPHERS:
            yield from _judge_ciphers(peer, rule, ciphers)

    return sweep(target, RULES, probe, options.parallel)


@dataclass(frozen=True)
class _Peer:
    target: EngineTarget
    address: str
    port: int
    seconds: float

    def shake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return handshake(self.target, self.address, self.port, context, self.seconds)
        except ConnectionRefusedError as error:
            raise NoAnswerError("the port was open and then refused a connection") from error
        except TimeoutError as error:
            raise NoAnswerError("a TLS handshake timed out") from error

    def gap(self, rule: Rule, reason: str) -> NotCovered:
        return NotCovered(rule.key, self.port, reason)


def _judge_certificate(peer: _Peer, trusting: ssl.SSLContext) -> Iterator[FindingEvent | NotCovered]:
    try:
        with peer.shake(lenient_context("DEFAULT")) as connection:
            der = connection.getpeercert(binary_form=True) or b""
        certificate = parse_certificate(der)
    except (OSError, CertificateError) as error:
        for rule in CERTIFICATE_RULES.values():
            yield peer.gap(rule, f"the certificate could not be read: {reason_of(error)}")
        return
    now = datetime.now(UTC)
    if certificate.not_after < now:
        yield tls_finding(EXPIRED, peer.port, f"Valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC")
    if certificate.not_before > now:
        yield tls_finding(NOT_YET_VALID, peer.port, f"Valid from {certificate.not_before:%Y-%m-%d %H:%M} UTC")
    if certificate.has_weak_key:
        yield tls_finding(WEAK_KEY, peer.port, f"{certificate.key_kind} with {certificate.key_bits} bits")
    if certificate.weak_signature:
        yield tls_finding(WEAK_SIGNATURE, peer.port, f"Signed with {certificate.weak_signature}")
    yield from _judge_trust(peer, trusting)
    yield from _judge_name(peer, der)


def _judge_trust(peer: _Peer, trusting: ssl.SSLContext) -> Iterator[FindingEvent | NotCovered]:
    code, message = _verify(peer, trusting)
    if code == _V_SELF_SIGNED:
        yield tls_finding(SELF_SIGNED, peer.port, message)
    elif code in _V_UNTRUSTED:
        yield tls_finding(UNTRUSTED, peer.port, message)
    elif code is None or (code != 0 and code not in _V_DATES):
        yield peer.gap(SELF_SIGNED, f"trust could not be judged: {message}")
        yield peer.gap(UNTRUSTED, f"trust could not be judged: {message}")


def _judge_name(peer: _Peer, der: bytes) -> Iterator[FindingEvent | NotCovered]:
    """With the peer's own certificate as the only trust anchor, nothing but names and dates can be wrong."""
    pinned = _strict_context()
    pinned.check_hostname = True
    pinned.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        pinned.load_verify_locations(cadata=der)
        code, message = _verify(peer, pinned)
    except ValueError as error:  # SSLError too: a certificate or a name that OpenSSL does not take
        code, message = None, str(error)
    if code in _V_NAMES:
        yield tls_finding(NAME_MISMATCH, peer.port, message)
    elif code is None or (code != 0 and code not in _V_DATES):
        yield peer.gap(NAME_MISMATCH, f"the name could not be judged: {message}")


def _verify(peer: _Peer, context: ssl.SSLContext) -> tuple[int | None, str]:
    """OpenSSL's verification code, 0 for good, ``None`` when it did not come to that."""
    try:
        peer.shake(context).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_code, str(error.verify_message).rstrip(".")
    except OSError as error:
        return None, reason_of(error)
    return 0, ""


def _strict_context() -> ssl.SSLContext:
    """Verifies certificates, whatever the protocol, cipher or key size: those are judged apart."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    set_versions(context, ssl.TLSVersion.TLSv1, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _trusting_context(ca_pem: str) -> ssl.SSLContext:
    context = _strict_context()
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca_pem:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except ssl.SSLError as error:
            raise EngineInputError(f"ca_pem holds no certificate: {reason_of(error)}") from error
    return context


def _judge_version(peer: _Peer, rule: Rule, old: ssl.TLSVersion) -> Iterator[FindingEvent | NotCovered]:
    context = lenient_context()
    try:
        set_versions(context, old, old)
        yield from _judge_offer(peer, rule, context)
    except ValueError as error:
        yield peer.gap(rule, f"this OpenSSL cannot offer it: {error}")


def _judge_ciphers(peer: _Peer, rule: Rule, ciphers: str) -> Iterator[FindingEvent | NotCovered]:
    try:
        context = lenient_context(ciphers)
    except ssl.SSLError as error:
        yield peer.gap(rule, f"this OpenSSL cannot offer it: {reason_of(error)}")
        return
    set_versions(context, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2)
    yield from _judge_offer(peer, rule, context)


def _judge_offer(peer: _Peer, rule: Rule, context: ssl.SSLContext) -> Iterator[FindingEvent | NotCovered]:
    """A refusal counts as one whichever way it is said: the same server has just completed a handshake."""
    try:
        with peer.shake(context) as connection:
            cipher = connection.cipher() or ("unknown", "", 0)
            yield tls_finding(rule, peer.port, f"Accepted: {connection.version()} with {cipher[0]}")
    except NoAnswerError as error:
        yield peer.gap(rule, str(error))
    except ssl.SSLError as error:
        if reason_of(error) in _CANNOT_OFFER:
            yield peer.gap(rule, f"this OpenSSL cannot offer it: {reason_of(error)}")
    except OSError:
        return
