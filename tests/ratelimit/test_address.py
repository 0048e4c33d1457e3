"""The client address of a request, which a client must not be able to forge."""

from __future__ import annotations

import pytest

from kataven.ratelimit.address import UNKNOWN, bucket, client_address

PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize("forged", ["1.2.3.4", "1.2.3.4, 5.6.7.8", "", "nonsense", None])
def test_header_is_ignored_without_trusted_proxies(forged: str | None) -> None:
    assert client_address(CLIENT, forged, 0) == CLIENT


@pytest.mark.parametrize("forged", ["", "1.2.3.4, ", "1.2.3.4, 5.6.7.8, ", "nonsense, ", ", , "])
def test_forged_entries_are_ignored(forged: str) -> None:
    assert client_address(PROXY, f"{forged}{CLIENT}", 1) == CLIENT
    assert client_address(PROXY, f"{forged}{CLIENT}, 10.0.0.2", 2) == CLIENT


def test_several_headers_are_read_as_one_list() -> None:
    assert client_address(PROXY, ["1.2.3.4, 5.6.7.8", CLIENT], 1) == CLIENT
    assert client_address(PROXY, ["1.2.3.4", f"{CLIENT}, 10.0.0.2"], 2) == CLIENT


@pytest.mark.parametrize("header", [None, "", CLIENT, [CLIENT], []])
def test_peer_address_is_used_if_a_proxy_entry_is_missing(header: list[str] | str | None) -> None:
    assert client_address(PROXY, header, 2) == PROXY


@pytest.mark.parametrize(
    "entry", ["nonsense", "999.1.1.1", "unknown", "_hidden", "", "203.0.113.7/32", "[::1", "1.2.3"]
)
def test_peer_address_is_used_if_the_entry_is_no_address(entry: str) -> None:
    assert client_address(PROXY, f"1.2.3.4, {entry}", 1) == PROXY


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:4711", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_address_is_normalized(written: str, meant: str) -> None:
    assert client_address(PROXY, written, 1) == meant
    assert client_address(written, None, 0) == meant


def test_socket_without_an_address() -> None:
    assert client_address("", None, 0) == UNKNOWN
    assert client_address("", CLIENT, 1) == CLIENT


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_budget_is_shared_by_an_address_or_a_64(address: str, expected: str) -> None:
    assert bucket(address) == expected
    assert bucket(expected) == expected


def test_neighbouring_networks_have_separate_budgets() -> None:
    assert bucket("2001:db8:1:2::1") != bucket("2001:db8:1:3::1")
