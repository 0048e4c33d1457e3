"""Reads the API usage of accounts, without consuming quota."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kataven.hub.session_middleware import hub_services
from kataven.ratelimit.decision import QuotaStatus
from kataven.ratelimit.policy import DAY, LIMIT_FIELDS, Limits

_DAY = next(limit for limit in LIMIT_FIELDS if limit.seconds == DAY)


def account_quotas(account: str, limits: Limits) -> tuple[QuotaStatus, ...] | None:
    """The status of each quota, or None if Redis is unavailable."""
    return hub_services().api_meter.quota_statuses(account, limits)


def used_today(accounts: Collection[str]) -> Mapping[str, int]:
    """The accepted requests of each account in the last day. Empty if Redis is unavailable."""
    return hub_services().api_meter.used_by_account(accounts, _DAY) or {} if accounts else {}
