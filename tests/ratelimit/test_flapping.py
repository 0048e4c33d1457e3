"""Properties if workers repeatedly lose and regain Redis, and replies are lost."""

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
from tests.ratelimit.test_properties import MICROSECONDS, Log, MicrosecondClock
from tests.ratelimit.unreliable_pool import UnreliablePool

LENGTHS = {7: 3, MINUTE: 8}
SCOPE = RateLimitKey(
    "account:{acme}", QuotaSet(*(Quota(f"w{seconds}", limit, seconds) for seconds, limit in LENGTHS.items()))
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
    """Run the steps with `workers` workers. Returns the times of admitted requests.

    All workers remain registered regardless of their own connection: no outage is longer than a worker's lease.
    """
    clock, log = MicrosecondClock(), Log()
    lines = [UnreliablePool(url) for _ in range(workers)]
    lines[0].call(pack("FLUSHALL"))
    all_windows = [
        FallbackWindows(RedisWindows(line, clock=clock), MemoryWindows(clock=clock), workers=workers) for line in lines
    ]
    registry = RedisWindows(RedisPool(url, PATIENT), clock=clock)
    for verb, number, wait in steps:
        clock.microseconds += wait
        for worker in all_windows:
            registry.heartbeat(worker._worker, {})
        worker, line = all_windows[number % workers], lines[number % workers]
        if verb == "take":
            if worker.take((SCOPE,), "").admitted:
                log.admitted.append(clock.microseconds)
        elif verb == "beat":
            worker.heartbeat()
        elif verb == "lose":
            line.replies_to_lose = 1
        else:
            line.down = verb == "down"
    for line in lines:
        line.down, line.replies_to_lose = False, 0
        line.close()
    registry.close()
    return log


def most(log: Log, seconds: int) -> int:
    """The highest number of admitted requests within `seconds`."""
    return max((log.within(at, seconds * MICROSECONDS) for at in log.admitted), default=0)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(steps=steps)
def test_one_worker_with_an_unreliable_redis_never_exceeds_a_limit(
    redis_url: str, steps: list[tuple[str, int, int]]
) -> None:
    log = play(redis_url, 1, steps)
    assert all(most(log, seconds) <= limit for seconds, limit in LENGTHS.items())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(steps=steps)
def test_three_workers_admit_less_than_twice_a_limit(redis_url: str, steps: list[tuple[str, int, int]]) -> None:
    log = play(redis_url, 3, steps)
    assert all(most(log, seconds) < 2 * limit for seconds, limit in LENGTHS.items())
