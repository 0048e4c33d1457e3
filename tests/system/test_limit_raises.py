"""Temporary raises of an account's rate limits, which end automatically in every worker."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text

from kataven.account import audit
from kataven.operations import account_limits, limit_raises
from kataven.operations.operator import Operator
from kataven.ratelimit.policy import Limits
from kataven.system import directory as directory_module
from kataven.system import operators
from kataven.system.errors import ContradictoryLimits, NoSuchAccount, NotARaise, SystemSchemaBehind
from kataven.system.limit_raises import with_raise
from kataven.system.sessions import AccountSessions
from kataven.tenancy.errors import TenantUnavailable
from tests.support.app_harness import AppHarness, new_account
from tests.support.waiting import wait_until

SECONDS = 20
"""Shorter than the time for which a worker caches an account."""


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, "raised-here")
    harness.set_limits("raised-here", per_minute=3, per_hour=1_000, per_day=10_000)
    return "raised-here"


@pytest.fixture(autouse=True)
def _without_raise(harness: AppHarness, account: str) -> None:
    limit_raises.end(operator_of(harness), account)


def operator_of(harness: AppHarness) -> Operator:
    return Operator("test", harness.services)


def limits_of(harness: AppHarness, account: str) -> Limits:
    """As the request pipeline reads them."""
    found = harness.services.directory.find(account)
    assert found is not None
    return found.limits


def command(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=["accounts", "limits", *words])


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_raise_admits_requests_that_were_refused_until_it_ends(harness: AppHarness, account: str) -> None:
    caller = harness.bearer(harness.new_key(account))
    while caller.get("/v1/me").status_code == 200:
        pass
    assert caller.get("/v1/me").get_json()["code"] == "rate_limited"
    limit_raises.raise_limits(operator_of(harness), account, {"per_minute": 50}, 24)
    wait_until(lambda: caller.get("/v1/me").status_code == 200, SECONDS)
    assert "50" in caller.get("/v1/me").headers["RateLimit-Policy"]
    ended, logged = limit_raises.end(operator_of(harness), account)
    assert ended is not None
    assert logged
    wait_until(lambda: caller.get("/v1/me").status_code == 429, SECONDS)


def test_raise_ends_in_a_cached_record_without_a_query(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_raises.raise_limits(operator_of(harness), account, {"per_minute": 50}, 1)
    wait_until(lambda: limits_of(harness, account).per_minute == 50, SECONDS)
    record, started = harness.services.directory.find(account), time.monotonic()
    assert record is not None
    monkeypatch.setattr(directory_module, "monotonic", lambda: started + 3_500)
    assert record.limits.per_minute == 50
    monkeypatch.setattr(directory_module, "monotonic", lambda: started + 3_601)
    assert record.limits.per_minute == 3
    assert record.base_limits.per_minute == 3


def test_raise_that_has_ended_is_not_read(harness: AppHarness, account: str) -> None:
    limit_raises.raise_limits(operator_of(harness), account, {"per_minute": 50}, 1)
    with harness.services.directory.database.writing() as session:
        session.execute(
            text("UPDATE accounts SET limits_raised_until = now() - interval '1 second' WHERE account_id = :id"),
            {"id": account},
        )
    record = harness.services.directory.read(account)
    assert record is not None
    assert record.raised is None
    assert limit_raises.read(operator_of(harness), account) is None


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({}, NotARaise),
        ({"per_minute": 3}, NotARaise),
        ({"per_minute": 2}, NotARaise),
        ({"per_minute": 1_001}, ContradictoryLimits),
        ({"per_minute": 0}, NotARaise),
    ],
)
def test_values_that_raise_nothing_or_contradict_each_other_are_refused(
    harness: AppHarness, account: str, values: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        limit_raises.raise_limits(operator_of(harness), account, values, 24)
    assert limit_raises.read(operator_of(harness), account) is None


def test_change_of_the_limits_during_a_raise_keeps_the_higher_value(harness: AppHarness, account: str) -> None:
    operator = operator_of(harness)
    limit_raises.raise_limits(operator, account, {"per_minute": 50}, 24)
    account_limits.change(operator, account, {"per_minute": 60})
    wait_until(lambda: limits_of(harness, account).per_minute == 60, SECONDS)
    account_limits.change(operator, account, {"per_minute": 3})
    wait_until(lambda: limits_of(harness, account).per_minute == 50, SECONDS)
    assert account_limits.read(operator, account).per_minute == 3


def test_unusable_values_in_the_database_are_ignored() -> None:
    base = Limits(60, 1_000, 10_000, 20)
    odd: dict[str, Any] = {"per_minute": 10**12, "per_hour": "2000", "per_day": None, "concurrent": 5, "per_week": 9}
    assert with_raise(base, odd) == Limits(1_000_000_000, 1_000, 10_000, 20)


def test_both_audit_logs_record_a_raise(harness: AppHarness, account: str) -> None:
    operator = operator_of(harness)
    raised, logged = limit_raises.raise_limits(operator, account, {"per_minute": 50}, 24)
    assert logged
    assert timedelta(hours=23) < raised.ends_at - datetime.now(UTC) < timedelta(hours=25)
    limit_raises.end(operator, account)
    with operator.system.reading() as session:
        events = operators.listing(session, 2, account=account)
        assert [event.action for event in events] == ["account.limit_raise_ended", "account.limits_raised"]
        assert events[1].detail == {
            "per_minute": 50,
            "until": raised.ends_at.astimezone(UTC).isoformat(timespec="seconds"),
        }
    with operator.sessions.reading(account) as tenant:
        own = audit.listing(tenant, 2, None).rows
        assert [(event.action, event.actor) for event in own] == [
            ("limits.raise_ended", "operator:test"),
            ("limits.raised", "operator:test"),
        ]


def test_raise_works_while_the_database_of_the_account_is_unavailable(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise TenantUnavailable(account, "down")

    operator = operator_of(harness)
    monkeypatch.setattr(AccountSessions, "writing", unavailable)
    raised, logged = limit_raises.raise_limits(operator, account, {"per_minute": 50}, 24)
    assert not logged
    assert limit_raises.read(operator, account) == raised


def test_raise_needs_the_system_schema_and_an_account(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(harness)
    with pytest.raises(NoSuchAccount):
        limit_raises.raise_limits(operator, "nobody-there", {"per_minute": 50}, 24)
    monkeypatch.setattr("kataven.system.limit_raises.system_has", lambda *_: False)
    with pytest.raises(SystemSchemaBehind):
        limit_raises.raise_limits(operator, account, {"per_minute": 50}, 24)


def test_command_raises_shows_and_ends(harness: AppHarness, account: str) -> None:
    raised = as_json(command(harness, account, "--per-minute", "40", "--raise-for", "2d", "--json"))
    assert (raised["per_minute"], raised["raised_per_minute"]) == (3, 40)
    left = datetime.fromisoformat(raised["raised_until"]) - datetime.now(UTC)
    assert timedelta(hours=47) < left <= timedelta(hours=48)
    assert as_json(command(harness, account, "--json"))["raised_per_minute"] == 40
    assert "raised_until" not in as_json(command(harness, account, "--end-raise", "--json"))
    again = command(harness, account, "--end-raise")
    assert "are not raised" in again.stderr
    for words in ("--raise-for 24h", "--per-minute 40 --end-raise", "--per-minute 4 --raise-for 0h"):
        assert command(harness, account, *words.split()).exit_code == 2
    for wrong in ("8d", "24", "h", "-1h", "1w"):
        assert "such as 24h or 3d" in command(harness, account, "--per-minute", "40", "--raise-for", wrong).stderr
    key = harness.app.test_cli_runner().invoke(
        args=["limits", "set", "--account", account, "--key", "0" * 32, "--per-minute", "4", "--raise-for", "1h"]
    )
    assert "not to keys" in key.stderr
