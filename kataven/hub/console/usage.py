"""How much of its limits an account has used at the API, seen without using any of them."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.hub.gate import front
from kataven.ratelimit.decision import Standing
from kataven.ratelimit.policy import Limits


def standings(account: str, limits: Limits) -> tuple[Standing, ...] | None:
    """Each limit and what is used of it; None if Redis can't say right now."""
    return front().api_meter.standings(account, limits)


def used_today(asked: Mapping[str, Limits]) -> Mapping[str, int | None]:
    """Requests of each account that were let in within a day; of none if Redis can't say right now."""
    found = front().api_meter.standings_of(asked) if asked else {}
    return {account: _of_a_day(standings) for account, standings in (found or {}).items()}


def _of_a_day(standings: tuple[Standing, ...]) -> int | None:
    return next((one.used for one in standings if one.quota.name == "per-day"), None)
