"""The test suite's own safeguards."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess

import pytest
import redis

from tests.conftest import LONGEST_FIRST, TARGETS
from tests.support.gunicorn import CHECKOUT


def test_files_that_run_first_exist() -> None:
    assert [file for file in LONGEST_FIRST if not (CHECKOUT / file).is_file()] == []


def marker_expressions(*targets: str) -> list[str]:
    """The expression after `-m` of each pytest command that these targets of the Makefile run."""
    command = ["make", "--dry-run", "NODE_TESTS=yes", *targets]
    printed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    commands = [shlex.split(line) for line in printed.splitlines() if " -m pytest " in line]
    return [words[len(words) - words[::-1].index("-m")] for words in commands]


def is_selected(expression: str, marker: str | None) -> bool:
    """Whether `marker`, or `not one and not another`, selects a test with this marker alone, or with none."""
    terms = expression.split(" and ")
    return all((term.removeprefix("not ") == marker) is not term.startswith("not ") for term in terms)


def test_every_marker_of_a_target_is_selected_by_that_target_only() -> None:
    assert marker_expressions("test") == [" and ".join(f"not {marker}" for marker in TARGETS)]
    for marker, target in TARGETS.items():
        assert marker_expressions(target) == [marker]


def test_ci_runs_every_test_once() -> None:
    targets = re.findall(r"\bmake ([\w-]+)", (CHECKOUT / ".ci" / "run").read_text())
    expressions = marker_expressions(
        *(target for target in targets if target in {"test", "test-all", *TARGETS.values()})
    )
    for marker in (None, *TARGETS):
        assert [is_selected(expression, marker) for expression in expressions].count(True) == 1, marker


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
