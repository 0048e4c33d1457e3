"""The client address of a request. Exactly as many entries of `X-Forwarded-For` are trusted as there are proxies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IPV6_PREFIX = 64
"""The smallest network that providers assign, so the smallest that a limit can distinguish."""
IPV6_SITE_PREFIX = 48
"""A network that providers often assign to one site: 65,536 of the smallest networks."""
UNKNOWN = "unknown"
"""Used if the peer has no IP address, such as a Unix socket."""

_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


def client_address(remote_addr: str, forwarded_for: Sequence[str] | str | None, trusted_proxies: int) -> str:
    """The client's address, read from `X-Forwarded-For` if `trusted_proxies` proxies are in front of this server.

    Each trusted proxy appends the address of its own peer to `X-Forwarded-For`. Therefore the client is entry number
    `trusted_proxies` from the right, and the client can forge everything left of it. If this entry is missing or is not
    an address, the request did not pass all proxies, and the address of the socket's peer is used.
    """
    if trusted_proxies and forwarded_for:
        text = forwarded_for if isinstance(forwarded_for, str) else ",".join(forwarded_for)
        entries = text.rsplit(",", trusted_proxies)
        if len(entries) >= trusted_proxies:
            found = _address(entries[-trusted_proxies].strip())
            if found is not None:
                return str(found)
    peer = _address(remote_addr)
    return str(peer) if peer is not None else UNKNOWN


def bucket(address: str) -> str:
    """The bucket that counts requests from this address: the address in IPv4, its /64 in IPv6."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found), IPV6_PREFIX), strict=False))
    return str(found) if found is not None else address


def network(address: str) -> str | None:
    """The wider network that has a budget as well: the /48 in IPv6, None in IPv4."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found), IPV6_SITE_PREFIX), strict=False))
    return None


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    with_port = _WITH_PORT.fullmatch(text)
    if with_port:
        text = with_port["v4"] or with_port["v6"]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found
