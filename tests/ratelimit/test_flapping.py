"""What holds however often workers lose Redis and find it again, and whatever answers are lost on the way."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import pack
from kataven.ratelimit.windows import RedisWindows
from tests.ratelimit.conftest import PATIENT
from tests.ratelimit.line import Line
from tests.ratelimit.test_properties import MICROSECONDS, Log, MicrosecondClock

LENGTHS = {7: 3, MINUTE: 8}
SCOPE = RateLimitKey(
    "account:acme", QuotaSet(*(Quota(f"w{seconds}", limit, seconds) for seconds, limit in LENGTHS.items()))
)

waits = st.one_of(
    st.integers(0, 1_000_000),
    st.sampled_from([0, 7, MINUTE]).flatmap(lambda s: st.integers(-2, 2).map(lambda d: max(0, s * MICROSECONDS + d))),
    st.integers(0, 20 * MICROSECONDS),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "take", "beat", "down", "up", "lose"]),
        st.integers(0, 2),
        waits,
    ),
    max_size=60,
)


def play(url: str, workers: int, steps: list[tuple[str, int, int]]) -> Log:
    """Let so many workers take those steps; returns when requests were admitted.

    That a worker lives is known of each, whatever its own way to Redis does: none is away for longer than its lease.
    """
    clock, log = MicrosecondClock(), Log()
    lines = [Line(url) for _ in range(workers)]
    lines[0].call(pack("FLUSHALL"))
    staff = [
        FallbackWindows(RedisWindows(line, clock=clock), MemoryWindows(clock=clock), workers=workers) for line in lines
    ]
    registry = RedisWindows(RedisPool(url, PATIENT), clock=clock)
    for verb, number, wait in steps:
        clock.microseconds += wait
        for worker in staff:
            registry.heartbeat(worker._worker, {})
        worker, line = staff[number % workers], lines[number % workers]
        if verb == "take":
            if worker.take((SCOPE,), "").admitted:
                log.admitted.append(clock.microseconds)
        elif verb == "beat":
            worker.heartbeat()
        elif verb == "lose":
            line.answers_to_lose = 1
        else:
            line.down = verb == "down"
    for line in lines:
        line.down, line.answers_to_lose = False, 0
        line.close()
    registry.close()
    return log


def most(log: Log, seconds: int) -> int:
    """The most that were admitted within so many seconds."""
    return max((log.within(at, seconds * MICROSECONDS) for at in log.admitted), default=0)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(steps=steps)
def test_one_worker_that_loses_redis_and_finds_it_is_never_over_a_limit(
    redis_url: str, steps: list[tuple[str, int, int]]
) -> None:
    log = play(redis_url, 1, steps)
    assert all(most(log, seconds) <= limit for seconds, limit in LENGTHS.items())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(steps=steps)
def test_three_workers_admit_less_than_twice_a_limit(redis_url: str, steps: list[tuple[str, int, int]]) -> None:
    log = play(redis_url, 3, steps)
    assert all(most(log, seconds) < 2 * limit for seconds, limit in LENGTHS.items())
