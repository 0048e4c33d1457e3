"""Reads the API usage of accounts, without consuming quota."""

from __future__ import annotations

from collections.abc import Mapping

from kataven.hub.session_middleware import hub_services
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.policy import Limits


def account_quotas(account: str, limits: Limits) -> tuple[QuotaStatus, ...] | None:
    """The status of each quota, or None if Redis is unavailable."""
    return hub_services().api_meter.quota_statuses(account, limits)


def used_today(limits: Mapping[str, Limits]) -> Mapping[str, int | None]:
    """The accepted requests of each account in the last day. Empty if Redis is unavailable."""
    found = hub_services().api_meter.quota_statuses_by_account(limits) if limits else {}
    return {account: _of_a_day(account_quotas) for account, account_quotas in (found or {}).items()}


def _of_a_day(account_quotas: tuple[QuotaStatus, ...]) -> int | None:
    return next((one.used for one in account_quotas if one.quota.name == "per-day"), None)
