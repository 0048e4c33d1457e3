"""Which web pages a widget key serves: the entries of its `domain_allowlist` against the `Origin` that a browser sends.

Pure: text in, answers out. Both sides are parsed once, completely and strictly, into a scheme, a host and a port, and
only those are compared; nothing here looks for one text inside another.

    acme.com                that host, over https
    https://acme.com:8443   that origin
    *.acme.com              any subdomain of it at any depth, over https, and not acme.com itself
    localhost:3000          that port of this machine, over http or https; so with 127.0.0.1, [::1], *.localhost
    localhost:*             every port of it

A browser serialises an origin in one way only (HTML, "ASCII serialization of an origin"): lower case, punycode, no
path, no default port. What is spelt otherwise was not written by a browser, so it is refused and not repaired; only the
case of letters and a default port are forgiven.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import idna
from publicsuffixlist import PublicSuffixList

MAX_ENTRIES = 100
MAX_ENTRY_LENGTH = 300
MAX_ORIGIN_LENGTH = 300
"""`https://`, a host of 253 characters and a port fit; nothing that is longer names a host."""

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
EVERY_PORT = "*"

_MAX_HOST_LENGTH = 253
# A label as hosts in URLs have it: letters, digits, hyphens and, in practice, underscores (RFC 1123; WHATWG URL).
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]+))?")
_REFERER = re.compile(r"(https?://[^/?#\\@\s]+)(?:[/?#][^\\\s]*)?", re.I)
_ENTRY = re.compile(r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?", re.I)
# The last label of an IPv4 address in any of the spellings that browsers rewrite: decimal, octal, hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# What may stand in no host and tells what went wrong better than "not a host name" does.
_FORBIDDEN: Final = {
    "@": "must not hold a user name or `@`; write the host alone",
    "/": "must be a host or an origin, without a path; write it like acme.com or https://acme.com:8443",
    "\\": "must not hold `\\`",
    "?": "must be a host or an origin, without a query",
    "#": "must be a host or an origin, without a fragment",
    "%": "must not hold `%`; write the host in plain letters",
}


class InvalidEntry(ValueError):
    """The entry can't be used; the text says what is wrong with it and how to write it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page came from: a scheme, a host in lower-case punycode, and the port, spelt out."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


@dataclass(frozen=True, slots=True)
class AllowlistEntry:
    """One parsed entry. `schemes` and `port` have to fit; `port` None is every port, 0 the scheme's default."""

    schemes: frozenset[str]
    host: str
    subdomains: bool
    port: int | None
    text: str
    """The entry in its one spelling, as it is stored and shown."""

    def admits(self, origin: Origin) -> bool:
        """Whether a page of this origin is meant."""
        return origin.scheme in self.schemes and self._has_host(origin.host) and self._has_port(origin)

    def _has_host(self, host: str) -> bool:
        if self.subdomains:
            # Compared label by label in effect: the dot is part of what must stand before the apex.
            return host.endswith(f".{self.host}")
        return host == self.host

    def _has_port(self, origin: Origin) -> bool:
        if self.port is None:
            return True
        return origin.port == (self.port or DEFAULT_PORTS[origin.scheme])


def admits(entries: Iterable[AllowlistEntry], origin: Origin | None) -> bool:
    """Whether any entry admits a page. No entries admit nobody, and a page without an origin is never admitted."""
    return origin is not None and any(entry.admits(origin) for entry in entries)


def origin_of(origin_header: str | None, referer_header: str | None) -> Origin | None:
    """Where a request came from, by its headers: `Origin`, or `Referer` where there is none; None if they don't say.

    An `Origin` that is there counts alone, also if it is `null` or unreadable: who hides is not asked twice.
    """
    if origin_header is not None:
        return parse_origin(origin_header)
    if referer_header is None or len(referer_header) > 8 * 1024:
        return None
    match = _REFERER.fullmatch(referer_header)
    return parse_origin(match[1]) if match else None


def parse_origin(text: str) -> Origin | None:
    """The origin that a browser spelt like this; None for `null` and for everything else that no browser sends."""
    if len(text) > MAX_ORIGIN_LENGTH or not text.isascii():
        return None
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    try:
        return Origin(scheme, _host(host), DEFAULT_PORTS[scheme] if port is None else _port(port))
    except InvalidEntry:
        return None


def parse_entry(text: str) -> AllowlistEntry:
    """Read an entry as a customer wrote it. Raises InvalidEntry."""
    if len(text) > MAX_ENTRY_LENGTH:
        raise InvalidEntry(f"is longer than {MAX_ENTRY_LENGTH} characters, which no host is")
    _refuse_what_no_host_has(text)
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise InvalidEntry("is not a host or an origin; write it like acme.com, *.acme.com or https://acme.com:8443")
    scheme, host, port = match["scheme"] and match["scheme"].lower(), match["host"], match["port"]
    subdomains = host.startswith("*.")
    host = _host(host[2:] if subdomains else host)
    if is_loopback(host):
        return _loopback(scheme, host, port, subdomains)
    if subdomains:
        return _wildcard(scheme, host, port)
    return _exact(scheme, host, port)


def parse_new_entry(text: str) -> AllowlistEntry:
    """Read an entry that is about to be stored. Raises InvalidEntry, also for a wildcard over names of many owners.

    Entries that are stored already are read with `parse_entry`, so that a newer list ends no page's widget.
    """
    entry = parse_entry(text)
    if entry.subdomains and not is_loopback(entry.host) and _public_suffixes().is_public(entry.host):
        raise InvalidEntry(
            f"`*.{entry.host}` would be everybody with a name under {entry.host}; name your own, like "
            f"acme.{entry.host} or *.acme.{entry.host}"
        )
    return entry


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    """The list that comes with the package, read once: nothing is fetched."""
    return PublicSuffixList()


def is_loopback(host: str) -> bool:
    """Whether a host in the spelling of `Origin` is the visitor's own machine (RFC 6761, section 6.3; RFC 8252)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _exact(scheme: str | None, host: str, port: str | None) -> AllowlistEntry:
    if scheme == "http":
        raise InvalidEntry(f"http is allowed on loopback names only; write https://{host}")
    if scheme not in (None, "https"):
        raise InvalidEntry(f"must be https; write https://{host}")
    if port is None:
        return AllowlistEntry(frozenset({"https"}), host, False, 0, host)
    if port == EVERY_PORT:
        raise InvalidEntry(f"`*` as a port is allowed on loopback names only; write https://{host} with the port")
    number = _port(port)
    if scheme is None and number != DEFAULT_PORTS["https"]:
        raise InvalidEntry(f"a port needs its scheme; write https://{host}:{number}")
    if number == DEFAULT_PORTS["https"]:
        return _exact(None, host, None)
    return AllowlistEntry(frozenset({"https"}), host, False, number, f"https://{host}:{number}")


def _wildcard(scheme: str | None, host: str, port: str | None) -> AllowlistEntry:
    if _address(host) is not None:
        raise InvalidEntry("an address has no subdomains; write it without `*.`")
    if "." not in host:
        raise InvalidEntry(f"`*.{host}` would be everybody under {host}; name a domain of your own, like *.acme.{host}")
    if scheme is not None or port is not None:
        raise InvalidEntry(f"a wildcard takes no scheme and no port: it is https; write *.{host}")
    return AllowlistEntry(frozenset({"https"}), host, True, 0, f"*.{host}")


def _loopback(scheme: str | None, host: str, port: str | None, subdomains: bool) -> AllowlistEntry:
    if scheme not in (None, *DEFAULT_PORTS):
        raise InvalidEntry(f"must be http or https; write http://{host}")
    if subdomains and _address(host) is not None:
        raise InvalidEntry("an address has no subdomains; write it without `*.`")
    number: int | None = 0
    if port is not None:
        number = None if port == EVERY_PORT else _port(port)
    schemes = frozenset(DEFAULT_PORTS if scheme is None else {scheme})
    text = "".join(
        (f"{scheme}://" if scheme else "", "*." if subdomains else "", host, "" if port is None else f":{port}")
    )
    return AllowlistEntry(schemes, host, subdomains, number, text)


def _refuse_what_no_host_has(text: str) -> None:
    if not text:
        raise InvalidEntry("is empty; write a host like acme.com, or leave the entry out")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise InvalidEntry("must not hold blanks, line breaks or invisible characters")
    if text == "*":
        raise InvalidEntry("`*` would be everybody; name your domains, like acme.com and *.acme.com")
    if text.lower() == "null":
        raise InvalidEntry("`null` is the origin of every sandboxed page and never matches; name a host")
    rest = text.partition("://")[2] or text
    for character, message in _FORBIDDEN.items():
        if character in rest:
            raise InvalidEntry(message)


def _host(text: str) -> str:
    """A host in the one spelling that browsers send. Raises InvalidEntry."""
    if text.startswith("["):
        return _ipv6(text)
    if "*" in text:
        raise InvalidEntry("`*` may stand only at the front, before a dot; write *.acme.com")
    if text.endswith("."):
        raise InvalidEntry("must not end with a dot; write it without")
    host = text.lower() if text.isascii() else _punycode(text)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if "" in labels:
        raise InvalidEntry("has an empty part between dots, or no host at all; write it like acme.com")
    if len(host) > _MAX_HOST_LENGTH or any(_LABEL.fullmatch(label) is None for label in labels):
        raise InvalidEntry("is not a host name; write it like acme.com")
    return host


def _punycode(host: str) -> str:
    """Strictly (IDNA 2008): what browsers would first map to something else, a full-width letter say, is refused."""
    try:
        if any(character.lower().isascii() and not character.isascii() for character in host):  # the Kelvin sign
            raise idna.InvalidCodepoint
        return idna.encode(host.lower(), strict=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InvalidEntry("is not a host name; write it in punycode, as in xn--bcher-kva.example") from None


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise InvalidEntry("is not an IPv4 address of four decimal numbers; write it like 127.0.0.1") from None


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text.strip("[]"))
    except ValueError:
        raise InvalidEntry("is not an IPv6 address in brackets; write it like [::1]") from None
    if address.scope_id is not None:
        raise InvalidEntry("must not hold a zone; write the address alone, like [::1]")
    return f"[{address.compressed}]"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65_535:
        raise InvalidEntry("the port must be a number from 1 to 65535, or `*` on a loopback name")
    return int(text)
