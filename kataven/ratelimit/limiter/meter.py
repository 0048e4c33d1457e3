"""What an account has used at a surface, read by somebody who is not that surface."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.limiter.admission import prefix_of, rate_limit_keys_of
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows


class Meter:
    """Reads the windows of one surface and uses none of them. Building it opens nothing."""

    def __init__(self, redis_url: str, surface: str) -> None:
        self._windows = RedisWindows(RedisPool(redis_url), prefix=prefix_of(surface))

    def close(self) -> None:
        """Close the connections."""
        self._windows.close()

    def quota_statuses(self, account: str, limits: Limits) -> tuple[QuotaStatus, ...] | None:
        """Each of the account's limits and what is used of it; None if Redis can't say right now."""
        try:
            return self._windows.look(rate_limit_keys_of(account, limits, None, None)).quota_statuses
        except (Unreachable, Refusal):
            return None

    def quota_statuses_of(self, asked: Mapping[str, Limits]) -> Mapping[str, tuple[QuotaStatus, ...]] | None:
        """The same of several accounts, in one round trip."""
        try:
            found = self._windows.look_all(
                [rate_limit_keys_of(account, limits, None, None) for account, limits in asked.items()]
            )
        except (Unreachable, Refusal):
            return None
        return {account: decision.quota_statuses for account, decision in zip(asked, found, strict=True)}
