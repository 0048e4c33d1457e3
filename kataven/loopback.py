"""Whether a host is the local machine. Imports no other module of the project."""

from __future__ import annotations

import ipaddress
from typing import Final

ADDRESSES: Final = frozenset({"127.0.0.1", "::1"})
"""The addresses that `localhost` resolves to."""


def is_loopback(host: str, *, subdomains: bool) -> bool:
    """Whether `host` is `localhost` or any loopback address, IPv6 without brackets.

    With `subdomains`, names under localhost count too (RFC 6761, section 6.3). Browsers resolve them to this machine
    without DNS; other clients may ask a DNS server, which can return the address of another machine.
    """
    if is_localhost(host, subdomains=subdomains):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_localhost(host: str, *, subdomains: bool) -> bool:
    """Whether `host`, in lowercase, is the name `localhost` or, with `subdomains`, a name under it."""
    return host == "localhost" or (subdomains and host.endswith(".localhost"))
