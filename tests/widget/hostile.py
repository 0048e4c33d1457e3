"""Forged origins for a widget key that lists acme.com, *.shop.acme.com and others. All must be rejected.

Every run has the same ten thousand origins: a generator with a fixed seed chooses the attack and its target.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

COUNT = 10_000

LISTED = (
    "acme.com",
    "https://acme.com:8443",
    "*.shop.acme.com",
    "xn--bcher-kva.example",
    "203.0.113.7",
    "[2001:db8::1]",
    "localhost:3000",
    "127.0.0.1:*",
)
"""The allowlist that must reject all hostile origins."""

APEXES = ("acme.com", "shop.acme.com", "a.shop.acme.com", "xn--bcher-kva.example", "203.0.113.7", "[2001:db8::1]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
BLANKS = (
    " ",
    "\t",
    "\n",
    "\r\n",
    "\v",
    "\f",
    "\x00",
    "\x1f",
    "\x7f",
    "\u00a0",
    "\u2003",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\u00ad",
)
DOTS = ("\u3002", "\uff0e", "\uff61", "\u2024", "\u2025", "%2e", "%2E", "..", "\\.")
SLASHES = ("\\\\", "/\\", "\\/", "/", "///", "\u2215\u2215", "\uff0f\uff0f", "")
SCHEMES = (
    *("http", "ws", "wss", "ftp", "file", "data", "blob", "javascript", "chrome-extension", "moz-extension", "about"),
    *("https:https", "https+http", "httpss", "xhttps", "hTtP", "view-source:https", "filesystem:https", "null", ""),
)
LOOK_ALIKES = {
    "a": "\u0430\u00e0\u0251\uff41\U0001d41a\u24d0\u00aa",
    "c": "\u0441\u00e7\u03f2\uff43\u217d",
    "m": "\u043c\uff4d\u217f",
    "e": "\u0435\u00e9\uff45",
    "o": "\u043e\u03bf\u00f6\uff4f\u2134\u00ba",
    "p": "\u0440\uff50",
    "s": "\u0455\uff53\u017f",
    "h": "\u04bb\uff48",
    "1": "\uff11\u00b9",
    "0": "\uff10\u2070",
    "2": "\uff12\u00b2",
    "3": "\uff13\u00b3",
    "7": "\uff17\u2077",
}

Attack = Callable[[random.Random], str]


def hostile_origins(count: int = COUNT) -> Iterator[str]:
    """`count` different origins, with an equal share for each attack."""
    draw = random.Random(20260101)  # noqa: S311  not a secret: the same on every run
    seen: set[str] = set()
    turn = 0
    while len(seen) < count:
        origin = ATTACKS[turn % len(ATTACKS)](draw)
        turn += 1
        if origin not in seen:
            seen.add(origin)
            yield origin


def _word(draw: random.Random, longest: int = 8) -> str:
    return "".join(draw.choice(LETTERS) for _ in range(draw.randint(1, longest)))


def _host(draw: random.Random) -> str:
    return draw.choice(APEXES)


def _name(draw: random.Random) -> str:
    """A listed host that is not an IP address."""
    return draw.choice(APEXES[:4])


def _evil(draw: random.Random) -> str:
    return f"{_word(draw)}.{draw.choice(('com', 'example', 'net', 'co', 'evil'))}"


def _listed_as_a_subdomain(draw: random.Random) -> str:
    return f"https://{_name(draw)}.{_evil(draw)}"


def _listed_as_a_suffix_without_a_dot(draw: random.Random) -> str:
    return f"https://{_word(draw)}{draw.choice(('', '-', '_'))}{draw.choice(('acme.com', 'shop.acme.com'))}"


def _under_a_host_without_a_wildcard(draw: random.Random) -> str:
    host = draw.choice(("acme.com", "xn--bcher-kva.example", "localhost", "203.0.113.7"))
    return f"https://z{_word(draw)}.{host}" if host != "acme.com" else f"https://z{_word(draw)}x.acme.com"


def _longer_at_the_end(draw: random.Random) -> str:
    return f"https://{_host(draw)}{draw.choice(('', '-', '_', '.'))}{_word(draw)}"


def _user_info(draw: random.Random) -> str:
    end = draw.choice(("", ":443", ":8443", "/"))
    trusted, other = draw.choice(((_host(draw), _evil(draw)), (_evil(draw), _host(draw)), (_word(draw), _host(draw))))
    return f"https://{trusted}{draw.choice(('', ':', ':' + _word(draw)))}@{other}{end}"


def _trailing_dots(draw: random.Random) -> str:
    return f"https://{_host(draw)}{'.' * draw.randint(1, 40)}{draw.choice(('', ':443', f':{draw.randint(1, 65535)}'))}"


def _backslash(draw: random.Random) -> str:
    return draw.choice(
        (
            f"https://{_evil(draw)}\\@{_host(draw)}",
            f"https://{_host(draw)}\\.{_evil(draw)}",
            f"https://{_evil(draw)}\\{_host(draw)}",
            f"https:\\\\{_host(draw)}\\{_word(draw)}",
            f"https://{_host(draw)}\\{_word(draw)}",
        )
    )


def _blank_somewhere(draw: random.Random) -> str:
    origin = f"https://{_host(draw)}"
    at = draw.randint(0, len(origin))
    return origin[:at] + draw.choice(BLANKS) * draw.randint(1, 30) + origin[at:]


def _another_dot(draw: random.Random) -> str:
    host = _host(draw).replace(":", ".", 1)
    dots = [at for at, character in enumerate(host) if character == "."]
    at = draw.choice(dots)
    tail = draw.choice(("", f":{draw.randint(1, 65535)}"))
    return f"https://{host[:at]}{draw.choice(DOTS)}{host[at + 1 :]}{tail}"


def _look_alike_letters(draw: random.Random) -> str:
    host = _name(draw)
    places = [at for at, character in enumerate(host) if character in LOOK_ALIKES]
    for at in draw.sample(places, draw.randint(1, min(3, len(places)))):
        host = host[:at] + draw.choice(LOOK_ALIKES[host[at]]) + host[at + 1 :]
    return f"https://{draw.choice(('', _word(draw) + '.'))}{host}"


def _look_alike_in_punycode(draw: random.Random) -> str:
    return f"https://xn--{_word(draw)}-{_word(draw, 5)}.{draw.choice(('com', 'example', 'acme.com'))}"


def _unicode_of_a_listed_punycode(draw: random.Random) -> str:
    spelt = draw.choice(("b\u00fccher", "B\u00dcCHER", "bu\u0308cher", "b\u00fc\u200dcher", "b\uff55\u0308cher"))
    return f"https://{draw.choice(('', _word(draw) + '.'))}{spelt}.example{draw.choice(('', ':443', '.'))}"


def _another_port(draw: random.Random) -> str:
    port = draw.randint(1, 65_535)
    return f"https://{_host(draw)}:{port if port not in (443, 8443) else 444}"


def _broken_port(draw: random.Random) -> str:
    port = draw.choice(
        ("", "0", "00443", "0443", "+443", "-1", "443 ", "4_43", "443.0", "0x1bb", "\uff14\uff14\uff13", "*")
    )
    return f"https://{_host(draw)}:{port}{draw.choice(('', _word(draw, 3), '@', ':443'))}"


def _port_out_of_range(draw: random.Random) -> str:
    port = draw.choice((65_536 * draw.randint(1, 9**9) + 443, draw.randint(65_536, 10**18)))
    return f"https://{_host(draw)}:{port}"


def _another_scheme(draw: random.Random) -> str:
    return f"{draw.choice(SCHEMES)}://{draw.choice(('', _word(draw) + '.'))}{_host(draw)}"


def _broken_scheme(draw: random.Random) -> str:
    scheme = f"https{draw.choice((':', '', '::', ';'))}{draw.choice(SLASHES)}"
    return f"{scheme}{_host(draw)}{draw.choice(('', '/', '.' + _word(draw)))}"


def _plain_http(draw: random.Random) -> str:
    return f"http://{draw.choice(('', _word(draw) + '.shop.'))}{_host(draw)}{draw.choice(('', ':80', ':443', ':8443'))}"


def _null(draw: random.Random) -> str:
    null = "".join(draw.choice((letter, letter.upper())) for letter in "null")
    return draw.choice(
        (null, f"{null} https://{_host(draw)}", f"https://{null}", f"{null}.{_host(draw)}", f"//{_host(draw)}")
    )


def _several_at_once(draw: random.Random) -> str:
    between = draw.choice((",", ", ", " ", ";", "\n", "|"))
    return between.join((f"https://{_host(draw)}", f"https://{draw.choice((_host(draw), _evil(draw)))}"))


def _empty_labels(draw: random.Random) -> str:
    host = _name(draw)
    spelt = draw.choice((f".{host}", f"..{host}", host.replace(".", "..", 1), f"{_word(draw)}..{host}", ""))
    return f"https://{spelt}{draw.choice(('', ':443'))}"


def _ipv4_in_disguise(draw: random.Random) -> str:
    number = draw.choice((0x7F000001, 0xCB007107))
    parts = [number >> shift & 255 for shift in (24, 16, 8, 0)]
    spelt = draw.choice(
        (
            str(number),
            hex(number),
            oct(number).replace("0o", "0"),
            ".".join(f"{draw.choice(('0', '00', '000'))}{part}" for part in parts),
            ".".join(hex(part) for part in parts),
            f"{parts[0]}.{number & 0xFFFFFF}",
            f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
            f"{'.'.join(map(str, parts))}.{draw.randint(0, 255)}",
            ".".join(map(str, [*parts[:3], parts[3] + 256])),
        )
    )
    return f"{draw.choice(('http', 'https'))}://{spelt}:{draw.randint(1, 65_535)}"


def _ipv6(draw: random.Random) -> str:
    inside = draw.choice(
        (
            f"2001:db8::{draw.randint(2, 0xFFFF):x}",
            f"::ffff:127.0.0.{draw.randint(1, 254)}",
            f"2001:db8::1%{_word(draw)}",
            f"2001:db8::1%25{_word(draw)}",
            f"::{_word(draw)}",
            f"2001:db8:::{_word(draw)}",
            f"v1.{_word(draw)}",
            f"::1]@{_evil(draw)}[",
        )
    )
    return f"https://{draw.choice((f'[{inside}]', inside, f'[[{inside}]]', f'[{inside}', f'[{inside}].{_evil(draw)}'))}"


def _very_long(draw: random.Random) -> str:
    kind = draw.randint(0, 2)
    if kind == 0:
        return f"https://{'a' * draw.randint(64, 9_000)}.shop.acme.com"
    if kind == 1:
        return f"https://{'.'.join(_word(draw) for _ in range(draw.randint(130, 900)))}.shop.acme.com"
    return f"https://acme.com{'/' * draw.randint(1, 5_000)}"


def _with_a_path(draw: random.Random) -> str:
    end = draw.choice(("/", "?", "#", "/?", ";", "%2f", "%00", "&"))
    return f"https://{_host(draw)}{end}{draw.choice(('', _word(draw)))}"


def _brackets_and_wildcards(draw: random.Random) -> str:
    return draw.choice(
        (
            f"https://*.{_host(draw)}",
            f"https://[{_name(draw)}]",
            f"https://{{{_host(draw)}}}",
            f"https://{_word(draw)}*.acme.com",
        )
    )


def _bad_labels(draw: random.Random) -> str:
    label = draw.choice(
        (f"-{_word(draw)}", f"{_word(draw)}-", f"{_word(draw)}!", f"'{_word(draw)}", f"{_word(draw)}+{_word(draw)}")
    )
    return f"https://{label}.shop.acme.com"


def _the_apex_of_a_wildcard(draw: random.Random) -> str:
    spelt = "".join(draw.choice((letter, letter.upper())) for letter in "shop.acme.com")
    return f"https://{spelt}{draw.choice(('', ':443', '.', f':{draw.randint(1, 65_535)}'))}"


def _an_unrelated_site(draw: random.Random) -> str:
    return f"https://{_evil(draw)}{draw.choice(('', f':{draw.randint(1, 65_535)}'))}"


def _another_local_port(draw: random.Random) -> str:
    port = draw.randint(1, 65_535)
    host = draw.choice(
        ("localhost", f"{_word(draw)}.localhost", "localhost.", "[::1]", f"127.0.0.{draw.randint(2, 254)}")
    )
    return f"{draw.choice(('http', 'https'))}://{host}:{port if port != 3000 else 3001}"


ATTACKS: tuple[Attack, ...] = (
    *(_listed_as_a_subdomain, _listed_as_a_suffix_without_a_dot, _under_a_host_without_a_wildcard, _longer_at_the_end),
    *(
        _user_info,
        _trailing_dots,
        _backslash,
        _blank_somewhere,
        _another_dot,
        _look_alike_letters,
        _look_alike_in_punycode,
    ),
    *(_unicode_of_a_listed_punycode, _another_port, _broken_port, _port_out_of_range, _another_scheme, _broken_scheme),
    *(_plain_http, _null, _several_at_once, _empty_labels, _ipv4_in_disguise, _ipv6, _very_long, _with_a_path),
    *(_brackets_and_wildcards, _bad_labels, _the_apex_of_a_wildcard, _an_unrelated_site, _another_local_port),
)
