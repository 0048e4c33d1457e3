"""Reads an account's usage of one app's limits from another process, such as the operator console."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.ratelimit.cluster_pool import pool_at
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.limiter.admission import rate_limit_keys_of, redis_prefix
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.redis_socket import Refusal, Unreachable
from kataven.ratelimit.windows import RedisWindows


class Meter:
    """Reads the windows of one app and consumes nothing. The constructor opens no connection."""

    def __init__(self, redis_url: str, app: str) -> None:
        self._windows = RedisWindows(pool_at(redis_url), prefix=redis_prefix(app))

    def close(self) -> None:
        """Close the connections."""
        self._windows.close()

    def quota_statuses(self, account: str, limits: Limits) -> tuple[QuotaStatus, ...] | None:
        """The state of each of the account's limits; None if Redis is unavailable."""
        try:
            return self._windows.peek(rate_limit_keys_of(account, limits, None, None)).quota_statuses
        except (Unreachable, Refusal):
            return None

    def quota_statuses_by_account(
        self, limits_by_account: Mapping[str, Limits]
    ) -> Mapping[str, tuple[QuotaStatus, ...]] | None:
        """The state of several accounts' limits, in one round trip; None if Redis is unavailable."""
        try:
            found = self._windows.peek_all(
                [rate_limit_keys_of(account, limits, None, None) for account, limits in limits_by_account.items()]
            )
        except (Unreachable, Refusal):
            return None
        return {account: decision.quota_statuses for account, decision in zip(limits_by_account, found, strict=True)}
