"""A planned failover that closes no connection: the demoted server still replies, but workers use the new primary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE
from kataven.ratelimit.redis_pool import Misdirected, RedisPool
from kataven.ratelimit.redis_socket import pack
from kataven.ratelimit.windows import RedisWindows
from kataven.redis_clients import NOT_PRIMARY, says_not_primary
from tests.ratelimit.conftest import PATIENT
from tests.ratelimit.limit_keys import one_window
from tests.ratelimit.proxy import Proxy

SCOPES = (one_window(1000, MINUTE),)


class Pair:
    """Two servers, and an address that forwards to the first."""

    def __init__(self, first: EmbeddedRedis, second: EmbeddedRedis, address: Proxy, to_second: Proxy) -> None:
        self.first, self.second, self.address = first, second, address
        self._to_second = to_second

    def demote(self) -> None:
        """Make the first a replica of the second. Its connections remain open."""
        with redis.Redis.from_url(self.first.url) as client:
            client.replicaof("127.0.0.1", self._to_second.url.rpartition(":")[2].partition("/")[0])

    def promote(self) -> None:
        """Forward new connections to the second."""
        self.address.redirect_to(self.second.url)


@pytest.fixture
def pair(server_folder: Path) -> Iterator[Pair]:
    # A separate folder for each test: a replica stores the data of its primary in its folder, and loads it when it
    # starts. This happens 5 s after it was demoted, so only on a busy machine.
    folder = Path(tempfile.mkdtemp(dir=server_folder))
    folder.chmod(0o711)
    with (
        EmbeddedRedis(folder / "first", persistent=False) as first,
        EmbeddedRedis(folder / "second", persistent=False) as second,
        Proxy(first.url) as address,
        Proxy(second.url) as to_second,
    ):
        yield Pair(first, second, address, to_second)
        with redis.Redis.from_url(first.url) as client:
            client.replicaof("NO", "ONE")


@pytest.fixture
def windows(pair: Pair) -> Iterator[FallbackWindows]:
    windows = FallbackWindows(RedisWindows(RedisPool(pair.address.url, PATIENT)), MemoryWindows())
    yield windows
    windows.stop()


def counted(server: EmbeddedRedis) -> int:
    """The usage that a server counts, read directly from the server."""
    pool = RedisPool(server.url, PATIENT)
    found = RedisWindows(pool).peek(SCOPES).quota_statuses[0].used
    pool.close()
    return found


def test_decision_after_a_planned_failover_uses_the_new_primary(pair: Pair, windows: FallbackWindows) -> None:
    windows.take(SCOPES, "")
    pair.demote()
    pair.promote()
    assert windows.take(SCOPES, "").admitted
    assert not windows.degraded
    assert counted(pair.second) == 1


def test_heartbeat_after_a_planned_failover_reaches_the_new_primary(pair: Pair, windows: FallbackWindows) -> None:
    windows.heartbeat()
    pair.demote()
    pair.promote()
    windows.heartbeat()
    assert not windows.degraded


def test_fallback_lasts_until_the_address_leads_to_a_primary(pair: Pair, windows: FallbackWindows) -> None:
    windows.take(SCOPES, "")
    pair.demote()
    assert windows.take(SCOPES, "").admitted
    assert windows.degraded
    windows.heartbeat()
    assert windows.degraded
    pair.promote()
    windows.heartbeat()
    assert not windows.degraded
    assert counted(pair.second) == 1  # the request that was admitted locally


def test_every_idle_connection_to_a_demoted_primary_is_closed(pair: Pair) -> None:
    pool = RedisPool(pair.address.url, PATIENT)
    borrowed = [pool._connect() for _ in range(3)]
    for connection in borrowed:
        pool._put_back(connection)
    pair.demote()
    with pytest.raises(Misdirected, match="READONLY"):
        pool.call(pack("SET", "a", "1"))
    pair.promote()
    assert pool.call(pack("SET", "a", "1")) == b"OK"
    assert len(pool._idle) == 1
    pool.close()


@pytest.mark.parametrize("name", sorted(NOT_PRIMARY))
def test_error_reply_of_a_server_that_is_not_the_primary(name: str) -> None:
    assert says_not_primary(f"{name} and why")
    assert says_not_primary(f"ERR Error running script (call to f_0): @user_script:99: -{name} and why")
    assert not says_not_primary(f"ERR unknown command '{name}'")
