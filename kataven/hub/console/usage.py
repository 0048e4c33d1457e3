"""How much of its limits an account has used at the API, seen without using any of them."""

from __future__ import annotations

from kataven.hub.gate import front
from kataven.ratelimit.decision import Standing
from kataven.ratelimit.policy import Limits


def standings(account: str, limits: Limits) -> tuple[Standing, ...] | None:
    """Each limit and what is used of it; None if Redis can't say right now."""
    return front().api_meter.standings(account, limits)


def used_today(account: str, limits: Limits) -> int | None:
    """Requests that were let in within a day; None if Redis can't say right now."""
    found = standings(account, limits)
    return None if found is None else next((one.used for one in found if one.quota.name == "per-day"), None)
