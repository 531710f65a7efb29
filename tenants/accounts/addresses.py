"""Where a request comes from, as far as that can be believed."""

from ipaddress import IPv6Address, IPv6Network, ip_address

from django.conf import settings

IPV6_PREFIX = 64  # what one customer is given: they may use another address of it for every request


def address_of(request) -> str:
    """
    The peer's address; an IPv6 one as its network. No header is read, unless ``BULKHEAD_TRUSTED_PROXIES`` says how
    many proxies stand in front: each has put the address that it saw at the end of ``X-Forwarded-For``. What stands
    before theirs is the client's own invention.
    """
    meta = getattr(request, "META", {})
    peer = meta.get("REMOTE_ADDR", "")
    proxies = settings.BULKHEAD_TRUSTED_PROXIES
    forwarded = [each.strip() for each in meta.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if 0 < proxies <= len(forwarded):
        return _network(forwarded[-proxies]) or _network(peer)
    return _network(peer)


def _network(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:  # a Unix socket has none; nor has a proxy that writes something else
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address.packed, IPV6_PREFIX), strict=False))
    return str(address)
