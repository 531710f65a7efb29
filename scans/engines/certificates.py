"""
The few facts of an X.509 certificate that ``ssl`` does not tell about one it does not trust.

A bounded DER reader for these fields only; anything unexpected is a ``CertificateError``, never a guess.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

MAX_CERTIFICATE = 64 * 1024

_RSA = bytes.fromhex("2a864886f70d010101")
_EC = bytes.fromhex("2a8648ce3d0201")
_EDWARDS = {bytes.fromhex("2b6570"): 256, bytes.fromhex("2b6571"): 448}
_CURVE_BITS = {
    bytes.fromhex("2a8648ce3d030101"): 192,
    bytes.fromhex("2b81040021"): 224,
    bytes.fromhex("2a8648ce3d030107"): 256,
    bytes.fromhex("2b8104000a"): 256,
    bytes.fromhex("2b81040022"): 384,
    bytes.fromhex("2b81040023"): 521,
}
_WEAK_SIGNATURES = {
    bytes.fromhex("2a864886f70d010102"): "MD2 with RSA",
    bytes.fromhex("2a864886f70d010104"): "MD5 with RSA",
    bytes.fromhex("2a864886f70d010105"): "SHA-1 with RSA",
    bytes.fromhex("2a8648ce3d0401"): "SHA-1 with ECDSA",
    bytes.fromhex("2a8648ce380403"): "SHA-1 with DSA",
}

_INTEGER, _BIT_STRING, _OID, _SEQUENCE, _UTC_TIME, _TIME, _VERSION = 0x02, 0x03, 0x06, 0x30, 0x17, 0x18, 0xA0


class CertificateError(ValueError):
    """Not a certificate that this reader understands."""


@dataclass(frozen=True)
class Certificate:
    not_before: datetime
    not_after: datetime
    key_kind: str
    key_bits: int
    weak_signature: str

    @property
    def has_weak_key(self) -> bool:
        return self.key_bits < (2048 if self.key_kind == "RSA" else 224)


def parse_certificate(der: bytes) -> Certificate:
    if len(der) > MAX_CERTIFICATE:
        raise CertificateError("the certificate is too long")
    body = _Reader(_Reader(der).take(_SEQUENCE)).take(_SEQUENCE)
    reader = _Reader(body)
    if reader.peek() == _VERSION:
        reader.take(_VERSION)
    reader.take(_INTEGER)
    signature = _Reader(reader.take(_SEQUENCE)).take(_OID)
    reader.take(_SEQUENCE)  # issuer
    validity = _Reader(reader.take(_SEQUENCE))
    not_before, not_after = _take_time(validity), _take_time(validity)
    reader.take(_SEQUENCE)  # subject
    kind, bits = _key(_Reader(reader.take(_SEQUENCE)))
    return Certificate(not_before, not_after, kind, bits, _WEAK_SIGNATURES.get(signature, ""))


def _take_time(reader: "_Reader") -> datetime:
    tag = reader.peek()
    text = reader.take(tag).decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != _TIME:
        raise CertificateError("a validity date is not a date")
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise CertificateError("a validity date is not a date") from error


def _key(reader: "_Reader") -> tuple[str, int]:
    algorithm = _Reader(reader.take(_SEQUENCE))
    oid = algorithm.take(_OID)
    if oid in _EDWARDS:
        return "EdDSA", _EDWARDS[oid]
    if oid == _EC:
        curve = algorithm.take(_OID)
        if curve not in _CURVE_BITS:
            raise CertificateError("an unknown elliptic curve")
        return "EC", _CURVE_BITS[curve]
    if oid != _RSA:
        raise CertificateError("an unknown kind of key")
    key = _Reader(_Reader(reader.take(_BIT_STRING)[1:]).take(_SEQUENCE))
    return "RSA", int.from_bytes(key.take(_INTEGER), "big").bit_length()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def peek(self) -> int:
        if self._position >= len(self._data):
            raise CertificateError("the certificate ends too early")
        return self._data[self._position]

    def take(self, tag: int) -> bytes:
        if self.peek() != tag:
            raise CertificateError(f"tag {self.peek():#x} where {tag:#x} belongs")
        start = self._position + 2
        length = int.from_bytes(self._data[self._position + 1 : start], "big")
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise CertificateError("a length is not DER")
            length = int.from_bytes(self._data[start : start + size], "big")
            start += size
        self._position = start + length
        if self._position > len(self._data):
            raise CertificateError("the certificate ends too early")
        return self._data[start : self._position]
