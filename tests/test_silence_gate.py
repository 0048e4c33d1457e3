"""Clients of a Redis that does not respond: one thread at a time waits for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.hub.sessions import Sessions, SessionsUnavailable
from kataven.redis_clients import SilenceGate, redis_client, silence_gate
from kataven.redis_clients.silence_gate import PROBE_SECONDS
from kataven.widget.store import WidgetStore


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> SilenceGate:
    return SilenceGate(clock)


class SilentServer:
    """Accepts connections, and never replies."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._accepted: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def connections(self) -> int:
        """How many connections were opened until now."""
        with suppress(BlockingIOError):
            while True:
                self._accepted.append(self._listener.accept()[0])
        return len(self._accepted)

    def close(self) -> None:
        for one in (self._listener, *self._accepted):
            one.close()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.connections()
    server.close()


def send(gate: SilenceGate, error: Exception | None = None) -> str:
    """`sent`, or what the command raised: `timeout`, or `not sent`."""
    sent = False
    try:
        with gate.passed():
            sent = True
            if error is not None:
                raise error
    except RedisTimeout:
        return "timeout"
    except RedisConnectionError:
        return "broken" if sent else "not sent"
    return "sent"


def test_after_a_command_without_a_reply_one_command_per_second_is_sent(gate: SilenceGate, clock: Clock) -> None:
    assert send(gate) == "sent"
    assert send(gate, RedisTimeout()) == "timeout"
    assert [send(gate) for _ in range(3)] == ["not sent"] * 3
    clock.now += PROBE_SECONDS
    assert send(gate, RedisTimeout()) == "timeout"
    assert send(gate) == "not sent"
    clock.now += PROBE_SECONDS
    assert [send(gate) for _ in range(3)] == ["sent"] * 3


def test_one_command_at_a_time_waits_for_a_silent_redis(gate: SilenceGate, clock: Clock) -> None:
    assert send(gate, RedisTimeout()) == "timeout"
    clock.now += PROBE_SECONDS
    with gate.passed():
        clock.now += 10 * PROBE_SECONDS  # it waits
        assert send(gate) == "not sent"
    assert send(gate) == "sent"


def test_probe_that_fails_without_a_timeout_is_followed_by_another(gate: SilenceGate, clock: Clock) -> None:
    assert send(gate, RedisTimeout()) == "timeout"
    clock.now += PROBE_SECONDS
    assert [send(gate, RedisConnectionError()) for _ in range(2)] == ["broken", "broken"]
    assert send(gate) == "sent"


def test_refused_and_broken_connections_do_not_close_the_gate(gate: SilenceGate) -> None:
    assert [send(gate, RedisConnectionError()) for _ in range(3)] == ["broken"] * 3
    assert send(gate) == "sent"


def test_client_without_a_gate_sends_each_command(silent: SilentServer) -> None:
    with redis_client(silent.url, timeout_seconds=0.05) as client:
        for expected in (1, 2):
            with pytest.raises(RedisTimeout):
                client.get("a")
            assert silent.connections() == expected


def test_sessions_of_the_hub_do_not_wait_for_a_silent_redis_twice(
    silent: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence_gate, "PROBE_SECONDS", 1_000)
    sessions = Sessions(silent.url, timeout_seconds=0.05)
    for _ in range(10):
        with pytest.raises(SessionsUnavailable):
            sessions.read("a-cookie")
    assert silent.connections() == 2, "a command is sent again once, on a new connection"
    sessions.close()


def test_gate_opens_when_redis_responds_again(redis_server: EmbeddedRedis, clock: Clock) -> None:
    gate = SilenceGate(clock)
    with redis_client(redis_server.url, timeout_seconds=30, gate=gate) as client:
        assert send(gate, RedisTimeout()) == "timeout"
        with pytest.raises(RedisConnectionError, match="a moment ago"):
            client.ping()
        clock.now += PROBE_SECONDS
        assert client.ping()
        assert client.set("silence-gate", "open", ex=1)


def test_store_of_the_widget_has_a_gate(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    assert getattr(store._client, "gate", None) is not None
    store.close()
