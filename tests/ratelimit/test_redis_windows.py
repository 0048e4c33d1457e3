"""What Redis alone is asked for: one command, bounded memory, keys that expire, slots that are leases."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from kataven.ratelimit.connection import Connection, Refusal
from kataven.ratelimit.policy import DAY, MINUTE, KeyLimits, Limits, Scope, account_plan
from kataven.ratelimit.windows import SLOT_LEASE_SECONDS, WORKER_LEASE_SECONDS, RedisWindows
from kataven.ratelimit.wire import Wire
from tests.ratelimit.monitor import commands_during
from tests.ratelimit.scopes import WIDE, acme, ci_key, one_window
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
    scopes = (
        acme(limits),
        ci_key(KeyLimits(per_minute=50, concurrent=50)),
    )
    for slot in "abc":
        assert redis_windows.take(scopes, slot).admitted
    before = dump(client)
    clock.advance(2)
    for slot in "defgh":
        assert not redis_windows.take(scopes, slot).admitted
    assert dump(client) == before


def test_one_command_decides(wire: Wire, redis_url: str) -> None:
    windows = RedisWindows(wire)
    scopes = (
        acme(),
        ci_key(KeyLimits(per_minute=100, per_hour=100, per_day=100, concurrent=100)),
    )
    windows.take(scopes, "warm")
    with commands_during(redis_url) as commands:
        for number in range(5):
            windows.take(scopes, f"slot-{number}")
    assert commands == ["EVALSHA"] * 5


def test_giving_back_is_one_command_for_an_account(wire: Wire, redis_url: str) -> None:
    windows = RedisWindows(wire)
    windows.take((acme(),), "a")
    with commands_during(redis_url) as commands:
        windows.give_back((acme(),), "a")
    assert commands == ["ZREM"]


def test_redis_that_forgot_the_script_is_given_it_again(redis_windows: RedisWindows, client: redis.Redis) -> None:
    redis_windows.take((acme(),), "a")
    client.script_flush()
    assert redis_windows.take((acme(),), "b").standings[0].used == 2


def test_without_a_clock_of_ours_redis_uses_its_own(wire: Wire, client: redis.Redis) -> None:
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
    scopes = (acme(Limits(concurrent=1)),)
    redis_windows.take(scopes, "a")
    clock.advance(SLOT_LEASE_SECONDS - 0.001)
    assert not redis_windows.take(scopes, "b").admitted
    clock.advance(0.001)
    assert redis_windows.take(scopes, "b").admitted


def test_beat_renews_the_slots_that_are_held(redis_windows: RedisWindows, clock: Clock) -> None:
    scopes = (
        acme(Limits(concurrent=2)),
        ci_key(KeyLimits(concurrent=2)),
    )
    redis_windows.take(scopes, "held")
    redis_windows.take(scopes, "lost")
    for _ in range(4):
        clock.advance(SLOT_LEASE_SECONDS / 2)
        redis_windows.beat("worker", {"held": scopes})
    used = [standing.used for standing in redis_windows.look(scopes).standings if standing.quota.seconds == 0]
    assert used == [1, 1]


def test_beat_does_not_bring_back_a_slot_that_was_given_back(redis_windows: RedisWindows) -> None:
    scopes = (acme(Limits(concurrent=2)),)
    redis_windows.take(scopes, "a")
    redis_windows.give_back(scopes, "a")
    redis_windows.beat("worker", {"a": scopes})
    assert redis_windows.look(scopes).standings[-1].used == 0


def test_beat_counts_the_workers_that_live(redis_windows: RedisWindows, clock: Clock) -> None:
    assert redis_windows.beat("one", {}) == 1
    assert redis_windows.beat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.beat("two", {}) == 2
    clock.advance(WORKER_LEASE_SECONDS / 2)
    assert redis_windows.beat("two", {}) == 1
    redis_windows.leave("two")
    assert redis_windows.beat("three", {}) == 1


def test_surfaces_do_not_share_anything(wire: Wire, clock: Clock) -> None:
    api = RedisWindows(wire, prefix="limits:api:", clock=clock)
    hub = RedisWindows(wire, prefix="limits:hub:", clock=clock)
    scopes = (acme(Limits(per_minute=1, concurrent=1)),)
    assert api.take(scopes, "a").admitted
    assert not api.take(scopes, "b").admitted
    assert hub.take(scopes, "c").admitted


def test_many_accounts_are_looked_at_in_one_round_trip(
    redis_windows: RedisWindows, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {f"account:{name}": count for count, name in enumerate(("a", "b", "c"))}
    asked = [(Scope(name, account_plan(Limits())),) for name in used]
    for (scope,) in asked:
        for slot in range(used[scope.name]):
            assert redis_windows.take((scope,), str(slot)).admitted
    sent: list[bytes] = []
    send = Connection.send

    def noted(self: Connection, command: bytes, answers: int = 1) -> None:
        sent.append(command)
        send(self, command, answers)

    monkeypatch.setattr(Connection, "send", noted)
    assert [decision.standings[0].used for decision in redis_windows.look_all(asked)] == [0, 1, 2]
    assert len(sent) == 1
    client.script_flush()
    assert redis_windows.look_all(asked) == [redis_windows.look(scopes) for scopes in asked]
    assert redis_windows.look_all([]) == []


def test_one_account_that_is_refused_refuses_all_and_the_connection_goes_on(
    redis_windows: RedisWindows, client: redis.Redis
) -> None:
    asked = [(Scope(f"account:{name}", account_plan(Limits())),) for name in "abc"]
    client.lpush("limits:account:b", "no window")
    with pytest.raises(Refusal, match="WRONGTYPE"):
        redis_windows.look_all(asked)
    client.delete("limits:account:b")
    assert [decision.standings[0].used for decision in redis_windows.look_all(asked)] == [0, 0, 0]
