"""What an account has used at a surface, read by somebody who is not that surface."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.ratelimit.connection import Refusal, Unreachable
from kataven.ratelimit.decision import Standing
from kataven.ratelimit.limiter.admission import prefix_of, scopes_of
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.windows import RedisWindows
from kataven.ratelimit.wire import Wire


class Meter:
    """Reads the windows of one surface and uses none of them. Building it opens nothing."""

    def __init__(self, redis_url: str, surface: str) -> None:
        self._windows = RedisWindows(Wire(redis_url), prefix=prefix_of(surface))

    def close(self) -> None:
        """Close the connections."""
        self._windows.close()

    def standings(self, account: str, limits: Limits) -> tuple[Standing, ...] | None:
        """Each of the account's limits and what is used of it; None if Redis can't say right now."""
        try:
            return self._windows.look(scopes_of(account, limits, None, None)).standings
        except (Unreachable, Refusal):
            return None

    def standings_of(self, asked: Mapping[str, Limits]) -> Mapping[str, tuple[Standing, ...]] | None:
        """The same of several accounts, in one round trip."""
        try:
            found = self._windows.look_all(
                [scopes_of(account, limits, None, None) for account, limits in asked.items()]
            )
        except (Unreachable, Refusal):
            return None
        return {account: decision.standings for account, decision in zip(asked, found, strict=True)}
