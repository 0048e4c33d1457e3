"""`flask accounts key-limits`: operators set lower limits for one key."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pytest
from click.testing import Result

from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.ratelimit.policy import KeyLimits
from kataven.system import operators
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.waiting import wait_until

SECONDS = 20
"""Shorter than the time for which a worker caches a key."""


def key_limits(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=["accounts", "key-limits", *words])


def run_json(harness: AppHarness, *words: str) -> dict[str, Any]:
    result = key_limits(harness, *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, "key-limited")
    harness.set_limits("key-limited", per_minute=600, per_hour=1_000)
    return "key-limited"


@pytest.fixture
def key(harness: AppHarness, account: str) -> Caller:
    return harness.bearer(harness.new_key(account))


def id_of(key: Caller) -> str:
    found: str = key.get("/v1/me").get_json()["credential"]["id"]
    return found


def per_minute_of(key: Caller) -> int:
    """The limit in the response headers, from a worker that has the key in its cache."""
    found: int = key.get("/v1/me").get_json()["limits"]["per_minute"]["limit"]
    return found


def events(harness: AppHarness, account: str) -> list[Any]:
    with harness.services.directory.database.reading() as session:
        found = operators.listing(session, 50, account=account, action="account.key_limits_changed")
        return [(event.actor, event.detail) for event in found]


def test_key_limits_are_set_changed_and_cleared(harness: AppHarness, account: str, key: Caller) -> None:
    key_id = id_of(key)
    none = asdict(KeyLimits())
    shown = run_json(harness, account, key_id)
    assert {name: shown[name] for name in ("key", "name", *none)} == {"key": key_id, "name": "test", **none}
    assert run_json(harness, account, key_id, "--per-minute", "30")["per_minute"] == 30
    both = run_json(harness, account, key_id, "--concurrent", "2")
    assert (both["per_minute"], both["concurrent"]) == (30, 2)
    replaced = run_json(harness, account, key_id, "--clear", "--per-day", "50")
    assert {name: replaced[name] for name in none} == {**none, "per_day": 50}
    cleared = run_json(harness, account, key_id, "--clear")
    assert {name: cleared[name] for name in none} == none
    changes = [(detail["key_id"], detail["from"], detail["to"]) for _, detail in events(harness, account)][:4]
    assert changes == [
        (key_id, {"per_day": 50}, {}),
        (key_id, {"per_minute": 30, "concurrent": 2}, {"per_day": 50}),
        (key_id, {"per_minute": 30}, {"per_minute": 30, "concurrent": 2}),
        (key_id, {}, {"per_minute": 30}),
    ]
    assert {actor for actor, _ in events(harness, account)} == {"cli"}


def test_worker_with_the_key_cached_applies_new_limits(harness: AppHarness, account: str, key: Caller) -> None:
    key_id = id_of(key)
    assert per_minute_of(key) == 600
    run_json(harness, account, key_id, "--per-minute", "5")
    wait_until(lambda: per_minute_of(key) == 5, SECONDS, lambda: per_minute_of(key))
    answers = [key.get("/v1/agents") for _ in range(6)]
    assert answers[-1].get_json()["detail"] == "key-per-minute (5) exceeded"
    run_json(harness, account, key_id, "--clear")
    wait_until(lambda: key.get("/v1/agents").status_code == 200, SECONDS, lambda: key.get("/v1/agents").text)


def test_owner_sees_the_limits_and_who_set_them(harness: AppHarness, account: str, key: Caller) -> None:
    key_id = id_of(key)
    run_json(harness, account, key_id, "--per-minute", "30")
    owner = harness.user(Persona("nora", "Nora", account, Role.OWNER))
    listed = {one["id"]: one["limits"] for one in owner.get("/v1/api-keys?limit=200").get_json()}
    assert listed[key_id]["per_minute"] == 30
    event = owner.get("/v1/audit-events?action=api_key.limits_changed&limit=1").get_json()[0]
    assert (event["target"], event["actor"]) == (key_id, "operator:cli")
    assert event["detail"] == {"from": {}, "to": {"per_minute": 30}}


def test_unchanged_limits_write_no_event_to_the_account(harness: AppHarness, account: str, key: Caller) -> None:
    key_id = id_of(key)
    before = len(events(harness, account))
    for _ in range(2):
        run_json(harness, account, key_id, "--per-minute", "30")
    changes = [detail["to"] for _, detail in events(harness, account)[: len(events(harness, account)) - before]]
    assert changes == [{"per_minute": 30}] * 2, "a command that was cut off before the trail is completed by the same"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--per-minute", "601"), "per-minute 601 exceeds the account's limit of 600"),
        (("--clear", "--per-hour", "1001"), "per-hour 1001 exceeds the account's limit of 1000"),
    ],
)
def test_limit_above_the_accounts_is_refused_and_nothing_changes(
    harness: AppHarness, account: str, key: Caller, words: tuple[str, ...], says: str
) -> None:
    key_id = id_of(key)
    run_json(harness, account, key_id, "--per-day", "7")
    refused = key_limits(harness, account, key_id, *words)
    assert refused.exit_code == 1
    assert says in refused.stderr
    assert f"flask accounts limits {account}" in refused.stderr
    assert run_json(harness, account, key_id)["per_day"] == 7


def test_key_keeps_its_limits_when_the_accounts_are_lowered(harness: AppHarness) -> None:
    new_account(harness.services, "lowered")
    key = harness.bearer(harness.new_key("lowered", limits={"per_minute": 500}))
    key_id = id_of(key)
    harness.set_limits("lowered", per_minute=100)
    assert run_json(harness, "lowered", key_id, "--per-day", "700")["per_minute"] == 500


@pytest.mark.parametrize(
    ("account_name", "words", "status", "says"),
    [
        ("nobody", ("--per-minute", "5"), 1, "Account 'nobody' does not exist"),
        ("key-limited", ("--per-minute", "5"), 1, "This account has no such API key."),
        ("key-limited", (), 1, "This account has no such API key."),
        ("key-limited", ("--per-minute", "0"), 2, "--per-minute"),
    ],
)
def test_unknown_account_or_key_is_a_one_line_error(
    harness: AppHarness, account: str, account_name: str, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = key_limits(harness, account_name, str(uuid4()), *words)
    assert (refused.exit_code, says in refused.stderr) == (status, True), refused.stderr
    assert "Traceback" not in refused.stderr


def test_invalid_key_id_is_a_usage_error(harness: AppHarness, account: str) -> None:
    assert key_limits(harness, account, "sk_live").exit_code == 2


def test_inconsistent_key_limits_are_refused(harness: AppHarness, account: str, key: Caller) -> None:
    result = key_limits(harness, account, id_of(key), "--per-minute", "50", "--per-hour", "5")
    assert result.exit_code != 0
    assert "per_minute is 50 and per_hour is 5" in result.output
    assert run_json(harness, account, id_of(key))["per_minute"] is None
    # A key without a limit per minute inherits the account's, and may have a lower one per hour.
    assert run_json(harness, account, id_of(key), "--per-hour", "5")["per_hour"] == 5
