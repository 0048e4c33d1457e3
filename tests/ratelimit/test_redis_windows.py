"""What Redis alone is asked for: one command, bounded memory, keys that expire, slots that are leases."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from kataven.ratelimit.policy import DAY, MINUTE, KeyLimits, Limits, RateLimitKey, account_quota_set
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import RedisSocket, Refusal
from kataven.ratelimit.windows import SLOT_LEASE_SECONDS, WORKER_LEASE_SECONDS, RedisWindows
from tests.ratelimit.limit_keys import WIDE, acme, ci_key, one_window
from tests.ratelimit.monitor import commands_during
from tests.support.clock import Clock


def dump(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Everything that Redis holds."""
    return {key: client.dump(key) for key in cast(list[bytes], client.keys("*"))}


@pytest.mark.parametrize(
    "limits",
    [Limits(per_minute=3), Limits(per_hour=3), Limits(per_day=3), Limits(concurrent=3)],
    ids=["minute", "hour", "day", "in flight"],
)
def test_refused_request_leaves_every_counter_as_it_was(
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


def test_one_command_decides(wire: RedisPool, redis_url: str) -> None:
    windows = RedisWindows(wire)
    limit_keys = (
        acme(),
        ci_key(KeyLimits(per_minute=100, per_hour=100, per_day=100, concurrent=100)),
    )
    windows.take(limit_keys, "warm")
    with commands_during(redis_url) as commands:
        for number in range(5):
            windows.take(limit_keys, f"slot-{number}")
    assert commands == ["EVALSHA"] * 5


def test_giving_back_is_one_command_for_an_account(wire: RedisPool, redis_url: str) -> None:
    windows = RedisWindows(wire)
    windows.take((acme(),), "a")
    with commands_during(redis_url) as commands:
        windows.give_back((acme(),), "a")
    assert commands == ["ZREM"]


def test_redis_that_forgot_the_script_is_given_it_again(redis_windows: RedisWindows, client: redis.Redis) -> None:
    redis_windows.take((acme(),), "a")
    client.script_flush()
    assert redis_windows.take((acme(),), "b").quota_statuses[0].used == 2


def test_without_a_clock_of_ours_redis_uses_its_own(wire: RedisPool, client: redis.Redis) -> None:
    windows = RedisWindows(wire)
    assert windows.take((one_window(1, MINUTE),), "").admitted
    assert not windows.take((one_window(1, MINUTE),), "").admitted
    assert 0 < client.ttl("limits:account:acme") <= MINUTE


def test_memory_is_bounded_whatever_comes(redis_windows: RedisWindows, client: redis.Redis, clock: Clock) -> None:
    for number in range(2_000):
        redis_windows.take((acme(WIDE),), f"slot-{number}")
        redis_windows.give_back((acme(WIDE),), f"slot-{number}")
        clock.advance(0.37 if number % 3 else 53.0)
    assert client.strlen("limits:account:acme") <= 3 * (12 + 61 * 12)
    assert dump(client).keys() == {b"limits:account:acme"}


def test_what_is_counted_expires_with_its_longest_window(redis_windows: RedisWindows, client: redis.Redis) -> None:
    redis_windows.take(
        (
            acme(),
            ci_key(KeyLimits(per_minute=5)),
        ),
        "a",
    )
    assert DAY - 5 <= client.ttl("limits:account:acme") <= DAY
    assert MINUTE - 5 <= client.ttl("limits:key:acme:ci") <= MINUTE
    assert 0 < client.pttl("limits:slots:account:acme") <= SLOT_LEASE_SECONDS * 1000


def test_slot_that_nobody_renews_is_free_after_its_lease(redis_windows: RedisWindows, clock: Clock) -> None:
    limit_keys = (acme(Limits(concurrent=1)),)
    redis_windows.take(limit_keys, "a")
    clock.advance(SLOT_LEASE_SECONDS - 0.001)
    assert not redis_windows.take(limit_keys, "b").admitted
    clock.advance(0.001)
    assert redis_windows.take(limit_keys, "b").admitted


def test_beat_renews_the_slots_that_are_held(redis_windows: RedisWindows, clock: Clock) -> None:
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
        for quota_status in redis_windows.look(limit_keys).quota_statuses
        if quota_status.quota.seconds == 0
    ]
    assert used == [1, 1]


def test_beat_does_not_bring_back_a_slot_that_was_given_back(redis_windows: RedisWindows) -> None:
    limit_keys = (acme(Limits(concurrent=2)),)
    redis_windows.take(limit_keys, "a")
    redis_windows.give_back(limit_keys, "a")
    redis_windows.heartbeat("worker", {"a": limit_keys})
    assert redis_windows.look(limit_keys).quota_statuses[-1].used == 0


def test_beat_counts_the_workers_that_live(redis_windows: RedisWindows, clock: Clock) -> None:
    assert redis_windows.heartbeat("one", {}) == 1
    assert redis_windows.heartbeat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.heartbeat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.heartbeat("two", {}) == 1
    redis_windows.leave("two")
    assert redis_windows.heartbeat("three", {}) == 1


def test_surfaces_do_not_share_anything(wire: RedisPool, clock: Clock) -> None:
    api = RedisWindows(wire, prefix="limits:api:", clock=clock)
    hub = RedisWindows(wire, prefix="limits:hub:", clock=clock)
    limit_keys = (acme(Limits(per_minute=1, concurrent=1)),)
    assert api.take(limit_keys, "a").admitted
    assert not api.take(limit_keys, "b").admitted
    assert hub.take(limit_keys, "c").admitted


def test_many_accounts_are_looked_at_in_one_round_trip(
    redis_windows: RedisWindows, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {f"account:{name}": count for count, name in enumerate(("a", "b", "c"))}
    asked = [(RateLimitKey(name, account_quota_set(Limits())),) for name in used]
    for (limit_key,) in asked:
        for slot in range(used[limit_key.name]):
            assert redis_windows.take((limit_key,), str(slot)).admitted
    sent: list[bytes] = []
    send = RedisSocket.send

    def noted(self: RedisSocket, command: bytes, answers: int = 1) -> None:
        sent.append(command)
        send(self, command, answers)

    monkeypatch.setattr(RedisSocket, "send", noted)
    assert [decision.quota_statuses[0].used for decision in redis_windows.look_all(asked)] == [0, 1, 2]
    assert len(sent) == 1
    client.script_flush()
    assert redis_windows.look_all(asked) == [redis_windows.look(limit_keys) for limit_keys in asked]
    assert redis_windows.look_all([]) == []


def test_one_account_that_is_refused_refuses_all_and_the_connection_goes_on(
    redis_windows: RedisWindows, client: redis.Redis
) -> None:
    asked = [(RateLimitKey(f"account:{name}", account_quota_set(Limits())),) for name in "abc"]
    client.lpush("limits:account:b", "no window")
    with pytest.raises(Refusal, match="WRONGTYPE"):
        redis_windows.look_all(asked)
    client.delete("limits:account:b")
    assert [decision.quota_statuses[0].used for decision in redis_windows.look_all(asked)] == [0, 0, 0]
