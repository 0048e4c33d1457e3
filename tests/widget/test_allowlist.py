"""The domain allowlist: matching, validation, and properties of any entry and origin."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kataven.widget.allowlist import (
    MAX_ENTRY_LENGTH,
    AllowlistEntry,
    InvalidEntry,
    Origin,
    allows,
    is_visitors_machine,
    origin_of,
    parse_entry,
    parse_new_entry,
    parse_origin,
)
from tests.widget.hostile import COUNT, LISTED, hostile_origins

ENTRIES = [parse_entry(text) for text in LISTED]


def matches(entry: str, origin: str) -> bool:
    return allows([parse_entry(entry)], parse_origin(origin))


@pytest.mark.parametrize(
    ("entry", "origin", "expected"),
    [
        ("acme.com", "https://acme.com", True),
        ("acme.com", "https://ACME.com", True),
        ("ACME.com", "https://acme.com", True),
        ("acme.com", "https://acme.com:443", True),
        ("acme.com", "https://acme.com:8443", False),
        ("acme.com", "http://acme.com", False),
        ("acme.com", "http://acme.com:443", False),
        ("acme.com", "https://www.acme.com", False),
        ("acme.com", "https://acme.com.", False),
        ("https://acme.com", "https://acme.com", True),
        ("https://acme.com:8443", "https://acme.com:8443", True),
        ("https://acme.com:8443", "https://acme.com", False),
        ("https://acme.com:443", "https://acme.com", True),
        ("*.acme.com", "https://www.acme.com", True),
        ("*.acme.com", "https://a.b.c.acme.com", True),
        ("*.acme.com", "https://acme.com", False),
        ("*.acme.com", "https://.acme.com", False),
        ("*.acme.com", "https://evilacme.com", False),
        ("*.acme.com", "https://www.acme.com:8443", False),
        ("*.acme.com", "http://www.acme.com", False),
        ("bücher.example", "https://xn--bcher-kva.example", True),
        ("BÜCHER.example", "https://xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "https://xn--bcher-kva.example", True),
        ("*.bücher.example", "https://shop.xn--bcher-kva.example", True),
        ("localhost:*", "http://localhost", True),
        ("localhost:*", "http://localhost:8080", True),
        ("localhost:*", "https://localhost:8443", True),
        ("localhost:*", "http://127.0.0.1:8080", False),
        ("localhost:*", "http://a.localhost:8080", False),
        ("localhost:3000", "http://localhost:3000", True),
        ("localhost:3000", "https://localhost:3000", True),
        ("localhost:3000", "http://localhost:3001", False),
        ("http://localhost:3000", "https://localhost:3000", False),
        ("localhost", "http://localhost", True),
        ("localhost", "https://localhost", True),
        ("localhost", "http://localhost:443", False),
        ("127.0.0.1:*", "http://127.0.0.1:5173", True),
        ("[::1]:*", "http://[::1]:5173", True),
        ("[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000", True),
        ("*.localhost:*", "http://shop.localhost:3000", True),
        ("*.localhost:*", "http://localhost:3000", False),
        ("203.0.113.7", "https://203.0.113.7", True),
        ("203.0.113.7", "http://203.0.113.7", False),
        ("foo_bar.example", "https://foo_bar.example", True),
    ],
)
def test_entry_matches_origins(entry: str, origin: str, expected: bool) -> None:
    assert matches(entry, origin) is expected


PUBLIC = [
    *("github.io", "gitlab.io", "vercel.app", "netlify.app", "pages.dev", "herokuapp.com", "myshopify.com", "web.app"),
    *("co.uk", "com.au", "co.jp", "gov.uk", "kobe.jp", "anything.ck", "公司.cn", "xn--55qx5d.cn"),
]


@pytest.mark.parametrize("suffix", PUBLIC)
def test_new_wildcard_over_a_public_suffix_is_rejected(suffix: str) -> None:
    with pytest.raises(InvalidEntry, match="would match every site under"):
        parse_new_entry(f"*.{suffix}")
    assert parse_entry(f"*.{suffix}").subdomains, "a stored entry remains valid"
    assert not parse_new_entry(suffix).subdomains, "the host itself is accepted"
    assert parse_new_entry(f"acme.{suffix}").host.startswith("acme.")
    assert parse_new_entry(f"*.shop.acme.{suffix}").subdomains


@pytest.mark.parametrize("apex", ["acme.com", "acme.co.uk", "city.kobe.jp", "www.ck", "corp.internal", "localhost"])
def test_wildcard_over_a_registrable_domain_is_accepted(apex: str) -> None:
    assert parse_new_entry(f"*.{apex}").text == f"*.{apex}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "is empty"),
        (" acme.com", "spaces"),
        ("acme.com\n", "spaces"),
        ("ac\u200bme.com", "invisible"),
        ("*", "would match every site"),
        ("*.com", "write your own domain, like *.acme.com"),
        ("null", "never matches"),
        ("http://acme.com", "write https://acme.com"),
        ("ftp://acme.com", "write https://acme.com"),
        ("acme.com:8443", "write https://acme.com:8443"),
        ("acme.com:*", "loopback names only"),
        ("https://acme.com:*", "loopback names only"),
        ("https://*.acme.com", "write *.acme.com"),
        ("*.acme.com:8443", "write *.acme.com"),
        ("www.*.com", "only at the start"),
        ("*.*.acme.com", "only at the start"),
        ("*acme.com", "only at the start"),
        ("*.127.0.0.1:*", "no subdomains"),
        ("acme.com/", "without a path"),
        ("https://acme.com/shop", "without a path"),
        ("acme.com?x", "without a query"),
        ("acme.com#x", "without a fragment"),
        ("me@acme.com", "user name"),
        ("acme.com\\evil.com", "must not contain `\\`"),
        ("acme%2ecom", "must not contain `%`"),
        ("acme.com.", "must not end with a dot"),
        ("acme..com", "empty part"),
        (".acme.com", "empty part"),
        ("https://:443", "or no host"),
        ("-acme.com", "not a host name"),
        ("acme!.com", "not a host name"),
        ("acme.com,globex.com", "not a host name"),
        (f"{'a' * 64}.com", "not a host name"),
        (".".join(["abcdefgh"] * 29), "not a host name"),
        ("a" * (MAX_ENTRY_LENGTH + 1), "at most 300 characters"),
        ("\uff41cme.com", "punycode"),
        ("acme\u3002com", "punycode"),
        ("a\u212ame.com", "punycode"),
        ("127.1", "IPv4"),
        ("0x7f000001", "IPv4"),
        ("2130706433", "IPv4"),
        ("127.0.0.256", "IPv4"),
        ("::1", "not a host or an origin"),
        ("[::g]", "IPv6"),
        ("[fe80::1", "not a host or an origin"),
        ("localhost:0", "1 to 65535"),
        ("localhost:65536", "1 to 65535"),
        ("localhost:0300", "1 to 65535"),
        ("localhost:", "1 to 65535"),
        ("localhost:٣٠٠٠", "1 to 65535"),
        ("ws://localhost:3000", "http or https"),
    ],
)
def test_invalid_entry_is_rejected_with_the_fix(entry: str, message: str) -> None:
    with pytest.raises(InvalidEntry) as refused:
        parse_entry(entry)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("origin", "referer", "expected"),
    [
        ("https://acme.com", None, "https://acme.com"),
        ("https://acme.com", "https://evil.example/", "https://acme.com"),
        (None, "https://acme.com", "https://acme.com"),
        (None, "https://acme.com/", "https://acme.com"),
        (None, "https://acme.com/a/b?c=https://evil.example#d", "https://acme.com"),
        (None, "https://acme.com:8443?x", "https://acme.com:8443"),
        (None, "http://localhost:3000/a", "http://localhost:3000"),
        (None, "https://evil.example/https://acme.com", "https://evil.example"),
        (None, "https://evil.example#https://acme.com/", "https://evil.example"),
        ("null", "https://acme.com/", None),
        ("NULL", None, None),
        ("", "https://acme.com/", None),
        ("nonsense", "https://acme.com/", None),
        (None, None, None),
        (None, "", None),
        (None, "about:blank", None),
        (None, "https://evil@acme.com/", None),
        (None, "https://evil.example\\@acme.com/", None),
        (None, "https://acme.com\\.evil.example/", None),
        (None, "https://acme.com/\\evil", None),
        (None, " https://acme.com/", None),
        (None, "https://acme.com./", None),
        (None, "//acme.com/", None),
        (None, "https://acme.com/" + "a" * 9000, None),
    ],
    ids=range(24),
)
def test_origin_of_a_request(origin: str | None, referer: str | None, expected: str | None) -> None:
    found = origin_of(origin, referer)
    assert (None if found is None else str(found)) == expected


def test_empty_list_and_missing_origin_are_never_allowed() -> None:
    assert not allows([], parse_origin("https://acme.com"))
    assert not allows(ENTRIES, None)
    assert not allows([], None)


def test_ten_thousand_hostile_origins_are_rejected() -> None:
    tried = list(hostile_origins())
    assert len(set(tried)) == COUNT
    assert [origin for origin in tried if allows(ENTRIES, origin_of(origin, None))] == []
    # Also as a Referer, alone and with a path.
    assert [origin for origin in tried if allows(ENTRIES, origin_of(None, origin))] == _pages_of_listed_hosts(tried)


def _pages_of_listed_hosts(tried: list[str]) -> list[str]:
    """Origins that are valid as a `Referer`, which has a path: `https://acme.com/x` is a page of acme.com."""
    return [origin for origin in tried if (page := _host_before_a_path(origin)) and allows(ENTRIES, parse_origin(page))]


def _host_before_a_path(origin: str) -> str | None:
    for end in "/?#":
        host, found, _ = origin.removeprefix("https://").partition(end)
        if (
            found
            and origin.startswith("https://")
            and set(host) <= set(string.ascii_letters + string.digits + ".:-[]_")
        ):
            return f"https://{host}"
    return None


def test_allowlist_of_the_hostile_test_accepts_valid_origins() -> None:
    """Ensures that the test above does not pass because all origins are rejected."""
    for origin in (
        *("https://acme.com", "https://acme.com:8443", "https://a.shop.acme.com", "https://xn--bcher-kva.example"),
        *("https://203.0.113.7", "https://[2001:db8::1]", "http://localhost:3000", "http://127.0.0.1:9"),
    ):
        assert allows(ENTRIES, origin_of(origin, None)), origin


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda label: label[2:4] != "--")
TOP = st.sampled_from(["com", "example", "net", "shop"])
HOST = st.builds(lambda labels, top: ".".join([*labels, top]), st.lists(LABEL, min_size=1, max_size=4), TOP)
PORT = st.integers(1, 65_535)


@settings(deadline=None)
@given(host=HOST, port=PORT)
def test_exact_origin_matches_itself_and_no_other_port(host: str, port: int) -> None:
    assume(port != 443)
    assert matches(host, f"https://{host}")
    assert matches(f"https://{host}:{port}", f"https://{host}:{port}")
    assert not matches(host, f"https://{host}:{port}")
    assert not matches(f"https://{host}:{port}", f"https://{host}")
    assert not matches(host, f"http://{host}")


@settings(deadline=None)
@given(host=HOST, other=HOST)
def test_exact_host_matches_no_other_host(host: str, other: str) -> None:
    assert matches(host, f"https://{other}") is (host == other)


@settings(deadline=None)
@given(apex=HOST, labels=st.lists(LABEL, min_size=1, max_size=5))
def test_wildcard_matches_any_depth_and_never_the_apex(apex: str, labels: list[str]) -> None:
    host = ".".join([*labels, apex])
    assume(len(host) <= 253)
    assert matches(f"*.{apex}", f"https://{host}")
    assert not matches(f"*.{apex}", f"https://{apex}")
    assert not matches(f"*.{apex}", f"https://{labels[0]}{apex}")
    assert not matches(f"*.{apex}", f"https://{host}.evil.example")


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=60), HOST, st.from_regex(r"(https?://)?(\*\.)?[a-z\u00fc.]{1,9}(:\d{1,5})?")))
def test_entry_is_normalized_and_http_is_limited_to_loopback(text: str) -> None:
    try:
        entry = parse_entry(text)
    except InvalidEntry:
        return
    assert parse_entry(entry.text) == entry, "the stored entry has the same meaning"
    assert entry.text.isascii()
    assert entry.text == entry.text.lower()
    if "http" in entry.schemes:
        assert is_visitors_machine(entry.host)


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.from_regex(r"https?://[a-zA-Z0-9.:@\\\[\]-]{1,40}", fullmatch=True)))
def test_origin_is_parsed_like_by_another_parser(text: str) -> None:
    origin = parse_origin(text)
    if origin is None:
        return
    split = urlsplit(text)
    assert (split.scheme, split.username, split.path, split.query) == (origin.scheme, None, "", "")
    assert (split.port or {"https": 443, "http": 80}[origin.scheme]) == origin.port
    if not origin.host.startswith("["):
        assert split.hostname == origin.host


@settings(deadline=None)
@given(
    scheme=st.sampled_from(["http", "https"]),
    host=st.one_of(HOST, st.sampled_from(["localhost", "[::1]", "127.0.0.1", "a.localhost"])),
    port=PORT,
)
def test_origin_is_normalized(scheme: str, host: str, port: int) -> None:
    origin = parse_origin(f"{scheme}://{host}:{port}")
    assert origin == Origin(scheme, host, port)
    assert parse_origin(str(origin)) == origin


@settings(deadline=None)
@given(entries=st.lists(st.sampled_from(LISTED), max_size=5), origin=st.text(max_size=40))
def test_order_and_repetition_of_entries_do_not_matter(entries: list[str], origin: str) -> None:
    parsed: list[AllowlistEntry] = [parse_entry(entry) for entry in entries]
    found = parse_origin(origin)
    assert allows(parsed, found) == allows([*reversed(parsed), *parsed], found)
