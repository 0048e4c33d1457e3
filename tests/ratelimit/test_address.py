"""Whose request is it? Nothing that a client can write into a header changes the answer."""

from __future__ import annotations

import pytest

from kataven.ratelimit.address import UNKNOWN, bucket, client_address

PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize("forged", ["1.2.3.4", "1.2.3.4, 5.6.7.8", "", "nonsense", None])
def test_without_proxies_the_header_is_not_believed(forged: str | None) -> None:
    assert client_address(CLIENT, forged, 0) == CLIENT


@pytest.mark.parametrize("forged", ["", "1.2.3.4, ", "1.2.3.4, 5.6.7.8, ", "nonsense, ", ", , "])
def test_what_a_client_claims_changes_nothing(forged: str) -> None:
    assert client_address(PROXY, f"{forged}{CLIENT}", 1) == CLIENT
    assert client_address(PROXY, f"{forged}{CLIENT}, 10.0.0.2", 2) == CLIENT


def test_several_headers_are_one_list() -> None:
    assert client_address(PROXY, ["1.2.3.4, 5.6.7.8", CLIENT], 1) == CLIENT
    assert client_address(PROXY, ["1.2.3.4", f"{CLIENT}, 10.0.0.2"], 2) == CLIENT


@pytest.mark.parametrize("header", [None, "", CLIENT, [CLIENT], []])
def test_request_that_did_not_pass_every_proxy_is_its_peers(header: list[str] | str | None) -> None:
    assert client_address(PROXY, header, 2) == PROXY


@pytest.mark.parametrize(
    "entry", ["nonsense", "999.1.1.1", "unknown", "_hidden", "", "203.0.113.7/32", "[::1", "1.2.3"]
)
def test_entry_that_is_no_address_is_its_peers(entry: str) -> None:
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
def test_one_address_has_one_spelling(written: str, meant: str) -> None:
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


def test_neighbouring_networks_are_told_apart() -> None:
    assert bucket("2001:db8:1:2::1") != bucket("2001:db8:1:3::1")
