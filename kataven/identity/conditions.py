"""Conditions of an API key that depend on the request: the client address, and whether a browser sent it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from kataven.identity.errors import AddressNotAllowed, BrowserUse

MAX_NETWORKS = 50
"""The maximum length of each list of networks."""
_MAX_DECISIONS = 1_024

Network = IPv4Network | IPv6Network


def network_of(text: str) -> str:
    """An address or a network in CIDR notation, normalized: `192.0.2.7` becomes `192.0.2.7/32`.

    IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2) becomes IPv4. Raises ValueError; the message is written for callers.
    """
    if "%" in text:
        raise ValueError("must not have a zone: a zone is a network interface of one machine (RFC 4007)")
    try:
        found = ip_network(text.strip())
    except ValueError:
        try:
            loose = ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError(
                "must be an IP address, or a network in CIDR notation such as 192.0.2.0/24 or 2001:db8::/32"
            ) from None
        raise ValueError(f"has bits set after its prefix: did you mean {loose}?") from None
    if isinstance(found, IPv6Network) and (mapped := found.network_address.ipv4_mapped) is not None:
        found = IPv4Network((mapped, found.prefixlen - 96))
    return str(found)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The networks from which a key may be used. `denied` takes precedence; an empty `allowed` allows all others."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    _decisions: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)
    """The result for each address so far: comparing 50 networks takes longer than the rest of the check."""

    @classmethod
    def of(cls, allowed: Sequence[str], denied: Sequence[str]) -> AddressRules | None:
        """None if there are no rules."""
        return cls(tuple(allowed), tuple(denied)) if allowed or denied else None

    def permits(self, address: str) -> bool:
        """Whether a client at this address may use the key. An unknown address, such as that of a Unix socket's peer,
        is not permitted: no rule can be checked for it."""
        decision = self._decisions.get(address)
        if decision is None:
            decision = self._decide(address)
            if len(self._decisions) >= _MAX_DECISIONS:
                self._decisions.clear()
            self._decisions[address] = decision
        return decision

    def _decide(self, address: str) -> bool:
        try:
            client = ip_address(address)
        except ValueError:
            return False
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        if _is_in(client, self.denied):
            return False
        return not self.allowed or _is_in(client, self.allowed)


def check(rules: AddressRules | None, address: str, *, from_browsers: bool, is_browser: bool) -> None:
    """Raises AddressNotAllowed or BrowserUse."""
    if rules is not None and not rules.permits(address):
        raise AddressNotAllowed(
            f"This API key can't be used from the address {address}. Send the request from a server whose address the "
            "key allows."
        )
    if is_browser and not from_browsers:
        raise BrowserUse


def _is_in(client: IPv4Address | IPv6Address, networks: Iterable[str]) -> bool:
    return any(client in ip_network(one) for one in networks)
