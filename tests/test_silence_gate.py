"""Clients of a Redis that does not respond: one thread at a time waits for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.hub.sessions import Sessions, SessionsUnavailable
from kataven.redis_clients import SilenceGate, redis_client, silence_gate
from kataven.redis_clients.silence_gate import PROBE_SECONDS
from kataven.widget.store import WidgetStore
from tests.support.clock import Clock


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
    """`sent`, or what the command raised: `timeout`, `broken`, `refused`, or `not sent`."""
    sent = False
    try:
        with gate.passed():
            sent = True
            if error is not None:
                raise error
    except RedisTimeout:
        return "timeout"
    except ResponseError:
        return "refused"
    except RedisConnectionError:
        return "broken" if sent else "not sent"
    return "sent"


def silence(gate: SilenceGate) -> None:
    """A command without a reply, and a probe without one."""
    assert [send(gate, RedisTimeout()) for _ in range(2)] == ["timeout"] * 2


def test_after_a_probe_without_a_reply_one_command_per_second_is_sent(gate: SilenceGate, clock: Clock) -> None:
    assert send(gate) == "sent"
    silence(gate)
    assert [send(gate) for _ in range(3)] == ["not sent"] * 3
    clock.advance(PROBE_SECONDS)
    assert send(gate, RedisTimeout()) == "timeout"
    assert send(gate) == "not sent"
    clock.advance(PROBE_SECONDS)
    assert [send(gate) for _ in range(3)] == ["sent"] * 3


def test_one_lost_reply_refuses_no_later_command(gate: SilenceGate) -> None:
    assert [send(gate, RedisTimeout()), send(gate), send(gate)] == ["timeout", "sent", "sent"]


def test_one_command_at_a_time_waits_for_a_silent_redis(gate: SilenceGate, clock: Clock) -> None:
    silence(gate)
    clock.advance(PROBE_SECONDS)
    with gate.passed():
        clock.advance(10 * PROBE_SECONDS)  # it waits
        assert send(gate) == "not sent"
    assert send(gate) == "sent"


def test_probe_that_fails_without_a_timeout_is_followed_by_another(gate: SilenceGate, clock: Clock) -> None:
    silence(gate)
    clock.advance(PROBE_SECONDS)
    assert [send(gate, RedisConnectionError()) for _ in range(2)] == ["broken", "broken"]
    assert send(gate) == "sent"


def test_refused_and_broken_connections_do_not_close_the_gate(gate: SilenceGate) -> None:
    gate.timeout_seconds = 2
    assert [send(gate, RedisConnectionError()) for _ in range(3)] == ["broken"] * 3
    assert send(gate) == "sent"


def test_any_failure_after_the_timeout_closes_the_gate(gate: SilenceGate, clock: Clock) -> None:
    """With sentinels and in a cluster, a timeout while connecting is reported as a server that was not found."""
    gate.timeout_seconds = 2

    def fail_after_the_timeout() -> None:
        with gate.passed():
            clock.advance(2)
            raise RedisConnectionError

    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            fail_after_the_timeout()
    assert send(gate) == "not sent"


def test_error_is_a_reply(gate: SilenceGate, clock: Clock) -> None:
    silence(gate)
    clock.advance(PROBE_SECONDS)
    assert send(gate, ResponseError("NOSCRIPT")) == "refused"
    assert send(gate) == "sent"


def test_commands_of_a_block_can_bypass_the_gate(gate: SilenceGate) -> None:
    silence(gate)
    with gate.bypassed():
        assert send(gate) == "sent"
    assert send(gate) == "not sent"


def test_idle_connections_are_closed_after_a_lost_reply(redis_server: EmbeddedRedis, gate: SilenceGate) -> None:
    """They can be broken like the one without a reply."""
    with redis_client(redis_server.url, timeout_seconds=30, gate=gate) as client:
        before = client.client_id()
        assert client.client_id() == before
        send(gate, RedisTimeout())
        assert client.client_id() != before


def test_client_without_a_gate_sends_each_command(silent: SilentServer) -> None:
    with redis_client(silent.url, timeout_seconds=0.05) as client:
        for expected in (1, 2):
            with pytest.raises(RedisTimeout):
                client.get("a")
            assert silent.connections() == expected


@pytest.mark.parametrize("scheme", ["redis:", "redis+cluster:"])
def test_sessions_of_the_hub_do_not_wait_for_a_silent_redis_again_and_again(
    silent: SilentServer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(silence_gate, "PROBE_SECONDS", 1_000)
    sessions = Sessions(silent.url.replace("redis:", scheme), timeout_seconds=0.05)
    connections = []
    for _ in range(10):
        with pytest.raises(SessionsUnavailable):
            sessions.read("a-cookie")
        connections.append(silent.connections())
    assert connections[0] > 0
    assert set(connections[1:]) == {connections[1]}, "after the first probe, no connection is opened"
    sessions.close()


def test_gate_opens_when_redis_responds_again(redis_server: EmbeddedRedis, clock: Clock) -> None:
    gate = SilenceGate(clock)
    with redis_client(redis_server.url, timeout_seconds=30, gate=gate) as client:
        silence(gate)
        with pytest.raises(RedisConnectionError, match="a moment ago"):
            client.ping()
        clock.advance(PROBE_SECONDS)
        assert client.ping()
        assert client.set("silence-gate", "open", ex=1)


def test_store_of_the_widget_has_a_gate(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    assert getattr(store._client, "gate", None) is not None
    store.close()
