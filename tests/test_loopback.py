"""Which hosts are the local machine."""

import pytest

from kataven.loopback import ADDRESSES, is_localhost, is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "0:0:0:0:0:0:0:1"])
def test_localhost_and_loopback_addresses_are_the_local_machine(host: str) -> None:
    assert is_loopback(host, subdomains=False)
    assert is_loopback(host, subdomains=True)


@pytest.mark.parametrize(
    "host",
    [
        *("", "localhost.example", "notlocalhost", "127.0.0.1.example", "example.com"),
        *("0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "128.0.0.1", "::2", "2001:db8::1"),  # noqa: S104
        *("127.1", "2130706433", "0x7f.0.0.1", "[::1]", "127.0.0.1:80", "localhost:80"),
    ],
)
def test_other_hosts_and_other_spellings_are_not_the_local_machine(host: str) -> None:
    assert not is_loopback(host, subdomains=False)
    assert not is_loopback(host, subdomains=True)


def test_names_under_localhost_count_only_if_the_caller_resolves_them_without_dns() -> None:
    assert is_loopback("shop.localhost", subdomains=True)
    assert not is_loopback("shop.localhost", subdomains=False)
    assert not is_loopback("shoplocalhost", subdomains=True)


def test_addresses_are_no_names() -> None:
    assert is_localhost("localhost", subdomains=False)
    for address in ADDRESSES:
        assert is_loopback(address, subdomains=False)
        assert not is_localhost(address, subdomains=True)
