"""Redis clients close connections to a server that is no longer the primary, and send the command again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Self

import pytest
import redis

from kataven.hub.sessions import Sessions, SignedInUser
from kataven.redis_clients import is_not_primary, redis_client, says_not_primary
from kataven.widget.families import Families
from kataven.widget.store import WidgetStore
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.revocation.scratch_redis import ScratchRedis

TIMEOUT_SECONDS = 30
NOWHERE = ("127.0.0.1", "1")


class Relay:
    """A TCP proxy in front of a primary. New connections go to `target`; existing ones remain open."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self._listener, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self.target))
                self._ends += [near, far]
                self._run(self._pump, near, far)
                self._run(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScratchRedis, ScratchRedis]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(ScratchRedis(tmp_path_factory.mktemp("a"))),
            stack.enter_context(ScratchRedis(tmp_path_factory.mktemp("b"))),
        )


class Failover:
    """Two servers behind a relay. `happen` demotes the first and directs the relay to the second."""

    def __init__(self, first: ScratchRedis, second: ScratchRedis, relay: Relay) -> None:
        self.relay = relay
        self._first, self._second = first, second

    def happen(self, *demotion: tuple[str, ...]) -> None:
        with self._first.client() as client:
            for command in demotion or (("REPLICAOF", *NOWHERE),):
                client.execute_command(*command)
        self.relay.target = self._second.socket

    def fail_without_successor(self) -> None:
        with self._first.client() as client:
            client.replicaof(*NOWHERE)


@pytest.fixture
def failover(servers: tuple[ScratchRedis, ScratchRedis]) -> Iterator[Failover]:
    first, second = servers
    for server in servers:
        with server.client() as client:
            client.replicaof("NO", "ONE")
            client.config_set("min-replicas-to-write", 0)
            client.config_set("replica-serve-stale-data", "yes")
            client.flushall()
    with Relay(first.socket) as relay:
        yield Failover(first, second, relay)


@pytest.mark.parametrize(
    "demotion",
    [
        pytest.param([("REPLICAOF", *NOWHERE)], id="READONLY"),
        pytest.param([("CONFIG", "SET", "min-replicas-to-write", "1")], id="NOREPLICAS"),
        pytest.param(
            [("CONFIG", "SET", "replica-serve-stale-data", "no"), ("REPLICAOF", *NOWHERE)],
            id="MASTERDOWN",
        ),
    ],
)
@pytest.mark.parametrize("resend", [False, True])
def test_the_next_command_goes_to_the_new_primary(
    failover: Failover, demotion: list[tuple[str, ...]], resend: bool
) -> None:
    with redis_client(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS, resend=resend) as client:
        client.set("before", "1")
        failover.happen(*demotion)
        assert client.set("after", "1") is True
        assert client.eval("return redis.call('SET', KEYS[1], '1')", 1, "script") == b"OK"
        assert client.get("before") is None
        assert failover.relay.accepted == 2


def test_a_rejected_write_of_a_script_is_sent_again(failover: Failover) -> None:
    with redis_client(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS) as client:
        client.set("before", "1")
        failover.happen()
        assert client.eval("return redis.call('SET', KEYS[1], '1')", 1, "script") == b"OK"


def test_a_command_is_sent_again_once_and_its_connection_is_closed(failover: Failover) -> None:
    with redis_client(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS) as client:
        client.set("before", "1")
        failover.fail_without_successor()
        with pytest.raises(redis.exceptions.ReadOnlyError):
            client.set("after", "1")
        assert failover.relay.accepted == 2
        failover.happen()
        assert client.set("after", "1") is True
        assert failover.relay.accepted == 3


def test_every_pooled_connection_reaches_the_new_primary(failover: Failover) -> None:
    with redis_client(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS) as client:
        pool = client.connection_pool
        held = [pool.get_connection() for _ in range(3)]
        for connection in held:
            pool.release(connection)
        failover.happen()
        replies: list[object] = []
        together = threading.Barrier(3)

        def write(name: str) -> None:
            together.wait()
            replies.append(client.set(name, "1"))

        threads = [threading.Thread(target=write, args=(str(number),)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies == [True] * 3


def test_an_ordinary_error_keeps_its_connection(failover: Failover) -> None:
    with redis_client(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS) as client:
        for _ in range(3):
            with pytest.raises(redis.ResponseError):
                client.eval("return redis.error_reply('ERR no')", 0)
        assert failover.relay.accepted == 1


def test_hub_sessions_work_after_a_planned_failover(failover: Failover) -> None:
    sessions = Sessions(failover.relay.url, timeout_seconds=TIMEOUT_SECONDS)
    sessions.save(sessions.new())
    failover.happen()
    session = sessions.new().with_(user=SignedInUser("alice", "Alice", "access", "id"))
    sessions.save(session)
    with sessions.locked(session) as found:
        assert found == session
    sessions.close()


def test_visitor_sessions_start_after_a_planned_failover(failover: Failover) -> None:
    store = WidgetStore(failover.relay.url)
    visitor_session = VisitorSession("acme", "key", 1, "agent", "https://www.acme.com", Visitor(VisitorKind.GUEST, "g"))
    Families(store).create(visitor_session)
    failover.happen()
    assert Families(store).read(Families(store).create(visitor_session)) == visitor_session
    store.close()


@pytest.mark.parametrize("reply", ["LOADING Redis is loading the dataset in memory", "MOVED 15154 127.0.0.1:7001"])
def test_a_connection_to_a_loading_or_moved_server_is_closed(reply: str) -> None:
    """Uses a fake server, because a real one can't be made to return these errors."""
    replies = [f"-{reply}", "+OK"]
    opened: list[socket.socket] = []

    def serve() -> None:
        for error in replies:
            connection, _ = listener.accept()
            opened.append(connection)
            with connection.makefile("rb") as sent:
                while words := read_command(sent):
                    reply = GREETINGS.get(words[0], error)
                    connection.sendall(f"{reply}\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with redis_client(url, timeout_seconds=TIMEOUT_SECONDS) as client:
                assert client.execute_command("FLUSHDB") is True
            thread.join()
        finally:
            for connection in opened:
                connection.close()
    assert len(opened) == len(replies)


GREETINGS = {b"HELLO": "%1\r\n$5\r\nproto\r\n:3", b"CLIENT": "+OK"}


def read_command(sent: BinaryIO) -> list[bytes]:
    """The arguments of the next command; empty at the end of the connection."""
    words = []
    for _ in range(int(sent.readline()[1:] or 0)):
        length = int(sent.readline()[1:])
        words.append(sent.read(length))
        sent.readline()
    return words


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -READONLY You can't write", True),
        ("ERR unknown command 'READONLY'", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ("NOSCRIPT No matching script.", False),
    ],
)
def test_the_errors_of_a_server_that_is_not_the_primary(reply: str, expected: bool) -> None:
    assert says_not_primary(reply) is expected
    assert is_not_primary(redis.ResponseError(reply)) is expected


@pytest.mark.parametrize("url", ["redis://a:1,b:2/0", "http://a/0", "redis://a/0?socket_timeout=60"])
def test_an_invalid_url_is_rejected_before_it_is_used(url: str) -> None:
    with pytest.raises(ValueError, match=r"several servers|must start with|option 'socket_timeout'"):
        redis_client(url, timeout_seconds=1)
