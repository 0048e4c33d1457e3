"""How much of its limits an account has used at the API, seen without using any of them."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.hub.session_middleware import hub_services
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.policy import Limits


def account_quotas(account: str, limits: Limits) -> tuple[QuotaStatus, ...] | None:
    """Each limit and what is used of it; None if Redis can't say right now."""
    return hub_services().api_meter.quota_statuses(account, limits)


def used_today(asked: Mapping[str, Limits]) -> Mapping[str, int | None]:
    """Requests of each account that were let in within a day; of none if Redis can't say right now."""
    found = hub_services().api_meter.quota_statuses_by_account(asked) if asked else {}
    return {account: _of_a_day(account_quotas) for account, account_quotas in (found or {}).items()}


def _of_a_day(account_quotas: tuple[QuotaStatus, ...]) -> int | None:
    return next((one.used for one in account_quotas if one.quota.name == "per-day"), None)
