"""Where a request comes from: its headers are believed as far as known proxies wrote them."""

import pytest
from django.test import RequestFactory

from tenants.accounts.addresses import address_of
from tests.tenants.trying import API, REFUSED, attempt, set_failures

PEERS = {
    "IPv4": ("192.0.2.1", "192.0.2.1"),
    "IPv6, by what one customer is given": ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    "its neighbour": ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
    "another customer's": ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    "IPv6 of this link": ("fe80::1%eth0", "fe80::/64"),
    "IPv4 in IPv6": ("::ffff:192.0.2.1", "192.0.2.1"),
    "a Unix socket": ("", ""),
}
CHAINS = {
    # proxies, X-Forwarded-For, the address; the peer is 192.0.2.1
    "nobody is trusted": (0, "203.0.113.1", "192.0.2.1"),
    "one proxy": (1, "203.0.113.1", "203.0.113.1"),
    "one, and what the client invented": (1, "198.51.100.1, 203.0.113.1", "203.0.113.1"),
    "two": (2, "198.51.100.1, 203.0.113.1, 192.0.2.2", "203.0.113.1"),
    "two, of which one has written": (2, "203.0.113.1", "192.0.2.1"),
    "one, which has written nothing": (1, None, "192.0.2.1"),
    "one, which wrote no address": (1, "203.0.113.1, unknown", "192.0.2.1"),
    "one, which wrote a port": (1, "203.0.113.1:4711", "192.0.2.1"),
    "IPv6": (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    "spaces": (1, " 198.51.100.1 ,  203.0.113.1 ", "203.0.113.1"),
}


@pytest.mark.parametrize(("peer", "address"), PEERS.values(), ids=PEERS.keys())
def test_a_peer_counts_by_its_network(peer, address):
    assert address_of(RequestFactory().get("/", REMOTE_ADDR=peer)) == address


@pytest.mark.parametrize(("proxies", "forwarded", "address"), CHAINS.values(), ids=CHAINS.keys())
def test_what_proxies_say_counts_as_far_as_there_are_any(settings, proxies, forwarded, address):
    settings.BULKHEAD_TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    assert address_of(RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers=headers)) == address


def test_what_is_no_request_has_no_address():
    assert address_of(None) == ""


def test_behind_a_proxy_each_client_is_counted_and_none_is_by_what_it_invents(acme, settings):
    settings.BULKHEAD_TRUSTED_PROXIES = 1
    first, second = ({"X-Forwarded-For": f"198.51.100.{{}}, 203.0.113.{n}"} for n in (1, 2))

    def ask(chain, number):
        headers = {"X-Forwarded-For": chain["X-Forwarded-For"].format(number)}
        return attempt(API, username=f"user{number}", **headers).status_code

    assert ask(first, 0) == 401
    set_failures("acme", "address", 99)
    assert [ask(first, number) for number in (1, 2, 3)] == [401, REFUSED, REFUSED]
    assert ask(second, 4) == 401
