"""The test suite's own safeguards."""

from __future__ import annotations

import socket

import pytest
import redis

from tests.conftest import LONGEST_FIRST
from tests.support.gunicorn import CHECKOUT


def test_files_that_run_first_exist() -> None:
    assert [file for file in LONGEST_FIRST if not (CHECKOUT / file).is_file()] == []


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_no_test_connects_to_another_machine(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(pytest.fail.Exception, match="network is disabled"):
        client.connect(address)


def test_no_test_resolves_the_name_of_another_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"example\.com"):
        socket.create_connection(("example.com", 80))


def test_tests_can_connect_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(("localhost", address[1])) as client:
            assert client.getpeername() == address


def _fill(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        client.set("left-over", "1")
        return int(client.dbsize())


@pytest.mark.parametrize("time", ["first", "second"])
def test_every_test_starts_with_an_empty_redis(redis_url: str, time: str) -> None:
    assert _fill(redis_url) == 1, f"not empty the {time} time"
    with redis.Redis.from_url(redis_url) as client:
        assert client.delete("left-over") == 1
        client.set(f"left by the {time}", "1")
