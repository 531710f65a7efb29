"""Which hosts may be connected to: strict names, resolved once, with every answer judged."""

import ipaddress
import re
import socket
import threading
import unicodedata
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ADDRESSES = 8

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
# 0x7f000001, 0177.1 and 127.1 are addresses to some clients, 1.2.3.4-9 a range to nmap; no top-level domain is like it.
_NUMERIC_LABEL = re.compile(r"[0-9-]+|0x[0-9a-f]*", re.ASCII)
_JAPANESE = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "LATIN"}  # written together


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Never unlocked: whoever reaches these holds the cloud account.
METADATA = _networks(
    "169.254.169.254/32",  # most clouds
    "169.254.170.2/32",  # AWS container credentials
    "169.254.170.23/32",  # AWS pod identity
    "169.254.42.42/32",  # Scaleway
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::254/128",  # AWS
    "fd00:ec2::23/128",  # AWS pod identity
    "fd20:ce::254/128",  # Google
    "fd00:42::42/128",  # Scaleway
    "fe80::a9fe:a9fe/128",  # OpenStack
)
LOOPBACK = _networks("127.0.0.0/8", "::1/128")
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
# No host that anybody may scan, or a second spelling of another address.
RESERVED = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")


class AddressRefused(Exception):
    """
    ``reason_code`` is one of invalid_host, unresolvable, too_many_addresses, metadata_address,
    loopback_address, private_address, reserved_address, own_infrastructure.
    """

    def __init__(self, reason_code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason_code = reason_code
        self.detail = detail


def normalise_host(text: str) -> str:
    """
    The one spelling of a host name (lower-case ASCII, IDNs as A-labels) or literal address.

        normalise_host("WWW.Example.COM.")  # "www.example.com"
        normalise_host("bücher.example")    # "xn--bcher-kva.example"
        normalise_host("127.1")             # AddressRefused, as are URLs, ports, ranges, brackets and zones

    Raises ``AddressRefused("invalid_host", ...)``.
    """
    if not isinstance(text, str) or not 0 < len(text) <= 253 + 1:
        raise _invalid("A host is text of at most 253 characters.")
    address = _literal(text)
    if address is not None:
        return str(address)
    name = text.removesuffix(".")
    labels = [_normalise_label(label) for label in name.split(".")]
    host = ".".join(labels)
    if len(host) > 253:
        raise _invalid("A host name has at most 253 characters.")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise _invalid("A host that ends in a number must be an address in its usual spelling.")
    return host


def _invalid(detail: str) -> AddressRefused:
    return AddressRefused("invalid_host", detail)


def _literal(text: str) -> Address | None:
    if "%" in text or not text.isascii():
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _normalise_label(label: str) -> str:
    if not label.isascii():
        label = _encode_label(label)
    label = label.lower()
    if not _LABEL.fullmatch(label):
        raise _invalid("A host name is made of letters, digits and inner hyphens, with dots between.")
    if label[2:4] == "--" and _decode_label(label) == label:
        raise _invalid("A label with hyphens in third and fourth place must be valid punycode.")
    return label


def _encode_label(label: str) -> str:
    """
    Refuses whatever looks like another label: compatibility forms, invisible characters, mixed scripts.

    Coming back changed from punycode betrays the first two, and sharp s and final sigma, which old and new
    rules of international names send to different hosts.
    """
    lowered = label.lower()
    if any(unicodedata.category(c) not in ("Ll", "Lo", "Mn", "Mc", "Nd") and c != "-" for c in lowered):
        raise _invalid("The host name has characters that are neither letters nor digits.")
    scripts = {unicodedata.name(c, "?").split(" ")[0] for c in lowered if unicodedata.category(c)[0] == "L"}
    if len(scripts) > 1 and not scripts <= _JAPANESE:
        raise _invalid("The host name mixes scripts.")
    try:
        encoded = lowered.encode("idna").decode("ascii")
        decoded = encoded.encode("ascii").decode("idna")
    except UnicodeError as error:
        raise _invalid("The host name cannot be written as an international name.") from error
    if decoded != lowered:
        raise _invalid("The host name has more than one spelling.")
    return encoded


def _decode_label(label: str) -> str:
    """The label that an A-label stands for, or the label itself when it stands for nothing else."""
    try:
        decoded = label.encode("ascii").decode("idna")
    except UnicodeError:
        return label
    return decoded if decoded != label and _encode_label(decoded) == label else label


def resolve_target(
    host: str,
    allow_loopback: bool = False,
    allow_private: bool = False,
    own_networks: Iterable[Network] = (),
    seconds: float = 10.0,
) -> tuple[str, ...]:
    """
    The literal addresses of ``host``, to be connected to instead of the name: asking again might answer otherwise.

    One refused address refuses the host. ``own_networks`` is this service's own infrastructure. IPv4 addresses
    in IPv6 clothes come back as IPv4. The system's resolver is waited for so many ``seconds`` at most.
    """
    name = normalise_host(host)
    own = tuple(own_networks)
    found = list(dict.fromkeys(str(_unmapped(address)) for address in _look_up(name, seconds)))
    if len(found) > MAX_ADDRESSES:
        raise AddressRefused("too_many_addresses", f"{name} has more than {MAX_ADDRESSES} addresses.")
    for text in found:
        _check(ipaddress.ip_address(text), name, allow_loopback, allow_private, own)
    return tuple(found)


def _look_up(name: str, seconds: float) -> list[Address]:
    addresses = []
    for *_, socket_address in _ask_resolver(name, seconds):
        text = str(socket_address[0])
        if "%" in text:
            raise AddressRefused("reserved_address", f"{name} has an address that is valid on one link only.")
        addresses.append(ipaddress.ip_address(text))
    return addresses


def _ask_resolver(name: str, seconds: float) -> list:
    """In a thread: the resolver takes no limit, and with several servers and search domains gives up after minutes."""
    answers: list = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.extend(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True, name="resolver")
    asking.start()
    asking.join(seconds)
    if errors or not answers:
        raise AddressRefused("unresolvable", f"{name} has no address.") from (errors[0] if errors else None)
    return answers


def _unmapped(address: Address) -> Address:
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _check(address: Address, name: str, allow_loopback: bool, allow_private: bool, own: tuple[Network, ...]) -> None:
    inner = _embedded(address)
    kind = classify(address)
    if inner is not None:
        # An address in another's clothes is never unlocked: at best it is one that needs no unlocking.
        inner_kind = classify(inner)
        kind = inner_kind if inner_kind != "public" else kind
        allow_loopback = allow_private = False
    if any(item is not None and item in network for item in (address, inner) for network in own):
        raise AddressRefused("own_infrastructure", f"{name} is an address of this service itself.")
    if kind == "public" or (kind == "loopback" and allow_loopback) or (kind == "private" and allow_private):
        return
    raise AddressRefused(f"{kind}_address", f"{name} has the {kind} address {address}, which may not be scanned.")


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _6TO4:
        return address.sixtofour
    if address in _TEREDO:
        return address.teredo[1] if address.teredo else None
    is_isatap = int(address) >> 32 & 0xFDFFFFFF == 0x00005EFE
    wraps = address in _MAPPED or address in _NAT64 or address in _LOCAL_NAT64 or is_isatap
    if wraps or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def classify(address: Address) -> str:
    """public, metadata, loopback, private or reserved. Not every kind that ``ipaddress`` calls global is public."""
    for kind, networks in (
        ("metadata", METADATA),
        ("loopback", LOOPBACK),
        ("private", PRIVATE),
        ("reserved", RESERVED),
    ):
        if any(address.version == network.version and address in network for network in networks):
            return kind
    if isinstance(address, ipaddress.IPv4Address):
        return "public" if address.is_global else "reserved"
    return "public" if address in _GLOBAL_IPV6 or address in _NAT64 else "reserved"
