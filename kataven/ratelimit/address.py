"""Whose request is it, by network address? Believes exactly as many proxies as there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IPV6_PREFIX = 64
"""The smallest network that is handed out, so the smallest that a limit can tell apart."""
IPV6_SITE_PREFIX = 48
"""What one site is often given: 65,536 of the smallest networks."""
UNKNOWN = "unknown"
"""Where there is no address: a Unix socket, a name."""

_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


def client_address(remote_addr: str, forwarded_for: Sequence[str] | str | None, trusted_proxies: int) -> str:
    """The client's address, as `trusted_proxies` proxies in front of this server make it believable.

    Each trusted proxy appends the address that it was called from to `X-Forwarded-For`, so the client is the entry that
    many from the right; everything left of it is what the client itself claims. Where there is no such entry, or it is
    no address, the peer of the socket is taken: somebody came another way.
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
    """What shares one budget with this address: itself in IPv4, its /64 in IPv6."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found), IPV6_PREFIX), strict=False))
    return str(found) if found is not None else address


def network(address: str) -> str | None:
    """The wider network that shares another budget with this address: its /48 in IPv6, none in IPv4."""
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
