"""Reads an account's usage of one app's limits from another process, such as the operator console."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kataven.ratelimit.cluster_pool import pool_at
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.limiter.admission import account_rate_limit_key, rate_limit_keys_of, redis_prefix
from kataven.ratelimit.policy import MAX_LIMIT, LimitField, Limits, Quota, QuotaSet, RateLimitKey
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

    def used_by_account(self, accounts: Collection[str], window: LimitField) -> Mapping[str, int] | None:
        """How many requests of each account are counted in one window, in one round trip; None if Redis is unavailable.

        Reads this window only: the limits themselves don't matter.
        """
        quota_set = QuotaSet(Quota(window.quota, MAX_LIMIT, window.seconds))
        keys = [(RateLimitKey(account_rate_limit_key(account), quota_set),) for account in accounts]
        try:
            found = self._windows.peek_all(keys)
        except (Unreachable, Refusal):
            return None
        return {account: decision.counts[0] for account, decision in zip(accounts, found, strict=True)}
