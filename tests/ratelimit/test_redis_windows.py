"""Windows in Redis: one command per decision, bounded memory, expiring keys, and slots with leases."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from kataven.ratelimit.policy import DAY, LIMIT_FIELDS, MINUTE, KeyLimits, Limits, RateLimitKey, account_quota_set
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import RedisSocket, Refusal
from kataven.ratelimit.windows import SLOT_LEASE_SECONDS, WORKER_LEASE_SECONDS, RedisWindows
from tests.ratelimit.limit_keys import WIDE, acme, ci_key, one_window
from tests.ratelimit.monitor import commands_during
from tests.support.clock import Clock


def dump(client: redis.Redis) -> dict[bytes, bytes | None]:
    """All keys and values in Redis."""
    return {key: client.dump(key) for key in cast(list[bytes], client.keys("*"))}


@pytest.mark.parametrize(
    "limits",
    [Limits(**{limit.field: 3}) for limit in LIMIT_FIELDS],
    ids=[limit.quota for limit in LIMIT_FIELDS],
)
def test_rejected_request_changes_no_counter(
    redis_windows: RedisWindows, client: redis.Redis, clock: Clock, limits: Limits
) -> None:
    limit_keys = (
        acme(limits),
        ci_key(KeyLimits(per_minute=50, concurrent=50)),
    )
    for slot in "abc":
        assert redis_windows.take(limit_keys, slot).admitted
    before = dump(client)
    clock.advance(2)
    for slot in "defgh":
        assert not redis_windows.take(limit_keys, slot).admitted
    assert dump(client) == before


def test_decision_is_one_command(pool: RedisPool, redis_url: str) -> None:
    windows = RedisWindows(pool)
    limit_keys = (
        acme(),
        ci_key(KeyLimits(**{limit.field: 100 for limit in LIMIT_FIELDS})),
    )
    windows.take(limit_keys, "warm")
    with commands_during(redis_url) as commands:
        for number in range(5):
            windows.take(limit_keys, f"slot-{number}")
    assert commands == ["EVALSHA"] * 5


def test_release_is_one_command_for_an_account(pool: RedisPool, redis_url: str) -> None:
    windows = RedisWindows(pool)
    windows.take((acme(),), "a")
    with commands_during(redis_url) as commands:
        windows.release((acme(),), "a")
    assert commands == ["ZREM"]


def test_flushed_script_is_loaded_again(redis_windows: RedisWindows, client: redis.Redis) -> None:
    redis_windows.take((acme(),), "a")
    client.script_flush()
    assert redis_windows.take((acme(),), "b").quota_statuses[0].used == 2


def test_redis_uses_its_own_clock_by_default(pool: RedisPool, client: redis.Redis) -> None:
    windows = RedisWindows(pool)
    assert windows.take((one_window(1, MINUTE),), "").admitted
    assert not windows.take((one_window(1, MINUTE),), "").admitted
    assert 0 < client.ttl("limits:account:{acme}") <= MINUTE


def test_memory_is_bounded_for_any_arrival_times(
    redis_windows: RedisWindows, client: redis.Redis, clock: Clock
) -> None:
    for number in range(2_000):
        redis_windows.take((acme(WIDE),), f"slot-{number}")
        redis_windows.release((acme(WIDE),), f"slot-{number}")
        clock.advance(0.37 if number % 3 else 53.0)
    assert client.strlen("limits:account:{acme}") <= 3 * (12 + 61 * 12)
    assert dump(client).keys() == {b"limits:account:{acme}"}


def test_counters_expire_with_their_longest_window(redis_windows: RedisWindows, client: redis.Redis) -> None:
    redis_windows.take(
        (
            acme(),
            ci_key(KeyLimits(per_minute=5)),
        ),
        "a",
    )
    assert DAY - 5 <= client.ttl("limits:account:{acme}") <= DAY
    assert MINUTE - 5 <= client.ttl("limits:key:{acme}:ci") <= MINUTE
    assert 0 < client.pttl("limits:slots:account:{acme}") <= SLOT_LEASE_SECONDS * 1000


def test_slot_is_free_after_its_lease_expires(redis_windows: RedisWindows, clock: Clock) -> None:
    limit_keys = (acme(Limits(concurrent=1)),)
    redis_windows.take(limit_keys, "a")
    clock.advance(SLOT_LEASE_SECONDS - 0.001)
    assert not redis_windows.take(limit_keys, "b").admitted
    clock.advance(0.001)
    assert redis_windows.take(limit_keys, "b").admitted


def test_heartbeat_renews_held_slots(redis_windows: RedisWindows, clock: Clock) -> None:
    limit_keys = (
        acme(Limits(concurrent=2)),
        ci_key(KeyLimits(concurrent=2)),
    )
    redis_windows.take(limit_keys, "held")
    redis_windows.take(limit_keys, "lost")
    for _ in range(4):
        clock.advance(SLOT_LEASE_SECONDS / 2)
        redis_windows.heartbeat("worker", {"held": limit_keys})
    used = [
        quota_status.used
        for quota_status in redis_windows.peek(limit_keys).quota_statuses
        if quota_status.quota.seconds == 0
    ]
    assert used == [1, 1]


def test_heartbeat_does_not_restore_a_released_slot(redis_windows: RedisWindows) -> None:
    limit_keys = (acme(Limits(concurrent=2)),)
    redis_windows.take(limit_keys, "a")
    redis_windows.release(limit_keys, "a")
    redis_windows.heartbeat("worker", {"a": limit_keys})
    assert redis_windows.peek(limit_keys).quota_statuses[-1].used == 0


def test_heartbeat_counts_running_workers(redis_windows: RedisWindows, clock: Clock) -> None:
    assert redis_windows.heartbeat("one", {}) == 1
    assert redis_windows.heartbeat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.heartbeat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.heartbeat("two", {}) == 1
    redis_windows.leave("two")
    assert redis_windows.heartbeat("three", {}) == 1


def test_apps_share_no_counters(pool: RedisPool, clock: Clock) -> None:
    api = RedisWindows(pool, prefix="limits:api:", clock=clock)
    hub = RedisWindows(pool, prefix="limits:hub:", clock=clock)
    limit_keys = (acme(Limits(per_minute=1, concurrent=1)),)
    assert api.take(limit_keys, "a").admitted
    assert not api.take(limit_keys, "b").admitted
    assert hub.take(limit_keys, "c").admitted


def test_many_accounts_are_read_in_one_round_trip(
    redis_windows: RedisWindows, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {f"account:{name}": count for count, name in enumerate(("a", "b", "c"))}
    asked = [(RateLimitKey(name, account_quota_set(Limits())),) for name in used]
    for (limit_key,) in asked:
        for slot in range(used[limit_key.name]):
            assert redis_windows.take((limit_key,), str(slot)).admitted
    sent: list[bytes] = []
    send = RedisSocket.send

    def recording(self: RedisSocket, command: bytes, replies: int = 1) -> None:
        sent.append(command)
        send(self, command, replies)

    monkeypatch.setattr(RedisSocket, "send", recording)
    assert [decision.quota_statuses[0].used for decision in redis_windows.peek_all(asked)] == [0, 1, 2]
    assert len(sent) == 1
    client.script_flush()
    assert redis_windows.peek_all(asked) == [redis_windows.peek(limit_keys) for limit_keys in asked]
    assert redis_windows.peek_all([]) == []


def test_error_for_one_account_fails_the_batch_and_the_connection_remains_usable(
    redis_windows: RedisWindows, client: redis.Redis
) -> None:
    asked = [(RateLimitKey(f"account:{{{name}}}", account_quota_set(Limits())),) for name in "abc"]
    client.lpush("limits:account:{b}", "no window")
    with pytest.raises(Refusal, match="WRONGTYPE"):
        redis_windows.peek_all(asked)
    client.delete("limits:account:{b}")
    assert [decision.quota_statuses[0].used for decision in redis_windows.peek_all(asked)] == [0, 0, 0]
