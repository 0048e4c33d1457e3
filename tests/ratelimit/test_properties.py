"""Properties for any arrival times: no window exceeds its limit, and memory and Redis always decide the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import DAY, HOUR, LIMIT_FIELDS, MINUTE, KeyLimits, Limits, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import pack
from kataven.ratelimit.windows import RedisWindows, Windows
from tests.ratelimit.limit_keys import acme, ci_key

pytestmark = pytest.mark.searches

SECONDS = {1, 7, MINUTE, HOUR, DAY}
MICROSECONDS = 1_000_000

quarters = st.one_of(st.integers(0, 5), st.integers(200, 244), st.sampled_from([236, 238, 239, 240, 241]))
waits = st.tuples(st.sampled_from(sorted(SECONDS)), quarters, st.integers(-1, 1)).map(
    lambda drawn: max(0, drawn[0] * MICROSECONDS // 240 * drawn[1] + drawn[2])
)
"""Microseconds between two arrivals, in quarters of a bucket: bursts, and edges of buckets and windows."""


class MicrosecondClock:
    """Advances by whole microseconds."""

    def __init__(self) -> None:
        self.microseconds = 1_800_000_000 * MICROSECONDS

    def __call__(self) -> float:
        return self.microseconds / MICROSECONDS  # exact to the microsecond up to the year 2255, at 53 bits


@dataclass
class Log:
    """The reference model: the time of every admitted request."""

    admitted: list[int] = field(default_factory=list)

    def within(self, now: int, length: int) -> int:
        return sum(now - length < at <= now for at in self.admitted)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(
    limits=st.dictionaries(st.sampled_from(sorted(SECONDS)), st.integers(1, 6), min_size=1, max_size=3),
    arrivals=st.lists(waits, min_size=1, max_size=40),
)
@pytest.mark.parametrize("kind", ["redis", "memory"])
def test_windows_never_exceed_or_undershoot_their_limit(
    kind: str, pool: RedisPool, limits: dict[int, int], arrivals: list[int]
) -> None:
    clock = MicrosecondClock()
    pool.call(pack("FLUSHALL"))
    windows: Windows = RedisWindows(pool, clock=clock) if kind == "redis" else MemoryWindows(clock=clock)
    limit_key = RateLimitKey(
        "account:{acme}", QuotaSet(*(Quota(f"w{seconds}", limit, seconds) for seconds, limit in limits.items()))
    )
    log = Log()
    for wait in arrivals:
        clock.microseconds += wait
        now = clock.microseconds
        if windows.take((limit_key,), "").admitted:
            log.admitted.append(now)
            # A window can exceed its limit only at an arrival, so windows that end with an arrival are sufficient.
            assert all(log.within(now, seconds * MICROSECONDS) <= limit for seconds, limit in limits.items())
        else:
            # The documented error: a request expires at most a sixtieth of the window late.
            assert any(log.within(now, seconds * MICROSECONDS * 61 // 60) >= limit for seconds, limit in limits.items())


small = st.integers(1, 4)
limits_of_account = st.builds(Limits, **{limit.field: small for limit in LIMIT_FIELDS})
maybe = st.none() | small
limits_of_key = st.builds(KeyLimits, **{limit.field: maybe for limit in LIMIT_FIELDS})
steps = st.tuples(
    st.sampled_from(["take", "take", "take", "peek", "release"]),
    waits,
    st.booleans(),
    st.integers(0, 5),
    st.sampled_from([1, 1, 1, 0, 2, 3, 5]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    account_limits=st.lists(limits_of_account, min_size=1, max_size=3),
    key_limits=limits_of_key,
    steps=st.lists(steps, min_size=1, max_size=50),
)
def test_memory_decides_like_redis_at_every_step(
    pool: RedisPool, account_limits: list[Limits], key_limits: KeyLimits, steps: list[tuple[str, int, bool, int, int]]
) -> None:
    clock = MicrosecondClock()
    pool.call(pack("FLUSHALL"))
    in_redis = RedisWindows(pool, clock=clock, slot_lease_seconds=10_000_000)
    in_memory = MemoryWindows(clock=clock)
    for number, (verb, wait, with_key, slot, cost) in enumerate(steps):
        clock.microseconds += wait
        # Operators can change limits at any time.
        account = acme(account_limits[number % len(account_limits)])
        limit_keys = (account, ci_key(key_limits)) if with_key else (account,)
        if verb == "take":
            name = f"slot-{slot}-{number}"
            assert in_redis.take(limit_keys, name, max(1, cost)) == in_memory.take(limit_keys, name, max(1, cost))
        elif verb == "peek":
            assert in_redis.peek(limit_keys, cost) == in_memory.peek(limit_keys, cost)
        else:
            for windows in (in_redis, in_memory):
                windows.release(limit_keys, f"slot-{slot}-{number - 1}")
