"""Sliding windows and concurrency limits over Redis, with a local fallback. Needs REDIS_URL."""

import os
import secrets

from kataven.ratelimit.cluster_pool import pool_at
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.windows import RedisWindows

WORKERS = 4
"""Without Redis, each worker admits a quarter of every limit."""
QUOTAS = QuotaSet(Quota("per-minute", 3, MINUTE), Quota("concurrent", 2, 0))

windows = FallbackWindows(
    RedisWindows(pool_at(os.environ["REDIS_URL"]), prefix="shop:limits:"), MemoryWindows(), workers=WORKERS
)


def handle(user: str) -> str:
    """One request of `user`. The name in braces is the hash tag of Redis Cluster."""
    keys = (RateLimitKey(f"user:{{{user}}}", QUOTAS),)
    slot = secrets.token_hex(8)
    decision = windows.take(keys, slot)  # one round trip for all limits; a rejected request counts in none
    if not decision.admitted:
        return f"429 {decision.detail}; " + ", ".join(name for name, _ in decision.headers())
    try:
        return "200 " + dict(decision.headers())["RateLimit"]
    finally:
        windows.release(keys, slot)


if __name__ == "__main__":
    windows.start()  # after the fork: it renews the slots of running requests
    for _ in range(4):
        print(handle("alice"))
    print(handle("bob"))
    windows.stop()
