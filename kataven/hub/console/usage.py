"""How much of its limits an account has used at the API, seen without using any of them."""

from __future__ import annotations

from kataven.hub.gate import front
from kataven.ratelimit.decision import Standing
from kataven.ratelimit.policy import Limits


def standings(account: str, limits: Limits) -> tuple[Standing, ...]:
    """Each limit and what is left of it at the API; not exact while Redis is away."""
    return front().api_limits.peek(account, limits).standings


def used_today(account: str, limits: Limits) -> int:
    """Requests that were let in within a day."""
    day = next((standing for standing in standings(account, limits) if standing.quota.name == "per-day"), None)
    return 0 if day is None else day.used
