"""The web pages that a widget key serves: compares its `domain_allowlist` with the `Origin` that a browser sends.

The module is pure. Both sides are parsed completely and strictly into a scheme, a host and a port, and only these are
compared. Substrings are never compared.

    acme.com                that host, over https
    https://acme.com:8443   that origin
    *.acme.com              any subdomain of it at any depth, over https, and not acme.com itself
    localhost:3000          that port of this machine, over http or https; also 127.0.0.1, [::1], *.localhost
    localhost:*             every port of it

A browser serializes an origin in exactly one way (HTML, "ASCII serialization of an origin"): lower case, punycode, no
path, no default port. Any other spelling was not written by a browser, so it is rejected and not repaired. Exceptions:
upper case and an explicit default port are accepted.
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

from kataven.loopback import is_loopback

MAX_ENTRIES = 100
MAX_ENTRY_LENGTH = 300
MAX_ORIGIN_LENGTH = 300
"""Long enough for `https://`, a host of 253 characters and a port."""

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
EVERY_PORT = "*"

_MAX_HOST_LENGTH = 253
# A label of a host in a URL: letters, digits, hyphens and, in practice, underscores (RFC 1123; WHATWG URL).
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]+))?")
_REFERER = re.compile(r"(https?://[^/?#\\@\s]+)(?:[/?#][^\\\s]*)?", re.I)
_ENTRY = re.compile(r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?", re.I)
# The last label of an IPv4 address in any spelling that browsers rewrite: decimal, octal, hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Characters that no host contains, with a more specific message than "not a host name".
_FORBIDDEN: Final = {
    "@": "must not contain a user name or `@`; write only the host",
    "/": "must be a host or an origin, without a path; write it like acme.com or https://acme.com:8443",
    "\\": "must not contain `\\`",
    "?": "must be a host or an origin, without a query",
    "#": "must be a host or an origin, without a fragment",
    "%": "must not contain `%`; write the host without escapes",
}


class InvalidEntry(ValueError):
    """An entry is invalid. The message names the fault and the fix."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a page: scheme, host in lower-case punycode, and explicit port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


@dataclass(frozen=True, slots=True)
class AllowlistEntry:
    """A parsed entry. `port` None matches every port, and 0 matches the default port of the scheme."""

    schemes: frozenset[str]
    host: str
    subdomains: bool
    port: int | None
    text: str
    """The entry in its normalized spelling, as it is stored and displayed."""

    def allows(self, origin: Origin) -> bool:
        """Whether the entry matches a page of this origin."""
        return origin.scheme in self.schemes and self._has_host(origin.host) and self._has_port(origin)

    def _has_host(self, host: str) -> bool:
        if self.subdomains:
            # The dot is part of the comparison, so only whole labels match.
            return host.endswith(f".{self.host}")
        return host == self.host

    def _has_port(self, origin: Origin) -> bool:
        if self.port is None:
            return True
        return origin.port == (self.port or DEFAULT_PORTS[origin.scheme])


def allows(entries: Iterable[AllowlistEntry], origin: Origin | None) -> bool:
    """Whether any entry matches the origin. An empty list matches nothing, and neither does a missing origin."""
    return origin is not None and any(entry.allows(origin) for entry in entries)


def origin_of(origin_header: str | None, referer_header: str | None) -> Origin | None:
    """The origin of a request from its `Origin` header or, if that is missing, its `Referer`. None if unknown.

    `Referer` is not read if an `Origin` header exists, even if that is `null` or invalid.
    """
    if origin_header is not None:
        return parse_origin(origin_header)
    if referer_header is None or len(referer_header) > 8 * 1024:
        return None
    match = _REFERER.fullmatch(referer_header)
    return parse_origin(match[1]) if match else None


def parse_origin(text: str) -> Origin | None:
    """Parse an `Origin` header. None for `null` and for values that no browser sends."""
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
    """Parse an entry. Raises InvalidEntry."""
    if len(text) > MAX_ENTRY_LENGTH:
        raise InvalidEntry(f"must be at most {MAX_ENTRY_LENGTH} characters")
    _reject_invalid_characters(text)
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise InvalidEntry("is not a host or an origin; write it like acme.com, *.acme.com or https://acme.com:8443")
    scheme, host, port = match["scheme"] and match["scheme"].lower(), match["host"], match["port"]
    subdomains = host.startswith("*.")
    host = _host(host[2:] if subdomains else host)
    if is_visitors_machine(host):
        return _loopback(scheme, host, port, subdomains)
    if subdomains:
        return _wildcard(scheme, host, port)
    return _exact(scheme, host, port)


def parse_new_entry(text: str) -> AllowlistEntry:
    """Parse an entry before it is stored. Raises InvalidEntry, including for wildcards over public suffixes.

    Stored entries are parsed with `parse_entry`, so an update of the public suffix list does not affect them.
    """
    entry = parse_entry(text)
    if entry.subdomains and not is_visitors_machine(entry.host) and _public_suffixes().is_public(entry.host):
        raise InvalidEntry(
            f"`*.{entry.host}` would match every site under {entry.host}; write your own domain, like "
            f"acme.{entry.host} or *.acme.{entry.host}"
        )
    return entry


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    """The public suffix list of the installed package, loaded once. Nothing is downloaded."""
    return PublicSuffixList()


def is_visitors_machine(host: str) -> bool:
    """Whether a normalized host is the visitor's own machine (RFC 6761, section 6.3; RFC 8252)."""
    return is_loopback(host.strip("[]"), subdomains=True)


def _exact(scheme: str | None, host: str, port: str | None) -> AllowlistEntry:
    if scheme == "http":
        raise InvalidEntry(f"http is allowed for loopback names only; write https://{host}")
    if scheme not in (None, "https"):
        raise InvalidEntry(f"must be https; write https://{host}")
    if port is None:
        return AllowlistEntry(frozenset({"https"}), host, False, 0, host)
    if port == EVERY_PORT:
        raise InvalidEntry(f"`*` as a port is allowed for loopback names only; write https://{host} with the port")
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
        raise InvalidEntry(f"`*.{host}` would match every site under {host}; write your own domain, like *.acme.{host}")
    if scheme is not None or port is not None:
        raise InvalidEntry(f"a wildcard is always https and must not have a scheme or a port; write *.{host}")
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


def _reject_invalid_characters(text: str) -> None:
    if not text:
        raise InvalidEntry("is empty; write a host like acme.com, or leave the entry out")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise InvalidEntry("must not contain spaces, line breaks or invisible characters")
    if text == "*":
        raise InvalidEntry("`*` would match every site; write your domains, like acme.com and *.acme.com")
    if text.lower() == "null":
        raise InvalidEntry("`null` is the origin of every sandboxed page and never matches; write a host")
    rest = text.partition("://")[2] or text
    for character, message in _FORBIDDEN.items():
        if character in rest:
            raise InvalidEntry(message)


def _host(text: str) -> str:
    """Normalize a host to the spelling that browsers send. Raises InvalidEntry."""
    if text.startswith("["):
        return _ipv6(text)
    if "*" in text:
        raise InvalidEntry("`*` is allowed only at the start, before a dot; write *.acme.com")
    if text.endswith("."):
        raise InvalidEntry("must not end with a dot")
    host = text.lower() if text.isascii() else _punycode(text)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if "" in labels:
        raise InvalidEntry("has an empty part between dots, or no host; write it like acme.com")
    if len(host) > _MAX_HOST_LENGTH or any(_LABEL.fullmatch(label) is None for label in labels):
        raise InvalidEntry("is not a host name; write it like acme.com")
    return host


def _punycode(host: str) -> str:
    """Encode strictly (IDNA 2008). Characters that browsers map first, such as full-width letters, are rejected."""
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
        raise InvalidEntry("must not contain a zone; write only the address, like [::1]")
    return f"[{address.compressed}]"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65_535:
        raise InvalidEntry("the port must be a number from 1 to 65535, or `*` for a loopback name")
    return int(text)
