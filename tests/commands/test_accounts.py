"""`flask accounts create|list|show|limits`, `flask migrations status|upgrade`, `flask dev token`."""

from __future__ import annotations

import json
from dataclasses import asdict

from click.testing import Result

from kataven.ratelimit.policy import Limits
from tests.support.app_harness import AppHarness


def flask(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=list(words))


def test_account_is_created_shown_and_listed(harness: AppHarness) -> None:
    created = flask(harness, "accounts", "create", "umbrella", "--name", "Umbrella Ltd", "--org-id", "org-u", "--json")
    assert created.exit_code == 0, created.output
    account = json.loads(created.stdout)
    assert (account["account"], account["name"], account["status"]) == ("umbrella", "Umbrella Ltd", "active")
    assert json.loads(flask(harness, "accounts", "show", "umbrella", "--json").stdout) == account
    listed = json.loads(flask(harness, "accounts", "list", "--json").stdout)
    assert "umbrella" in [row["account"] for row in listed]
    assert "umbrella" in flask(harness, "accounts", "list").stdout


def test_error_is_one_line_and_an_exit_status(harness: AppHarness) -> None:
    for words, run_json in (
        (("create", "Nope"), "lower-case"),
        (("create", "postgres"), "reserved"),
        (("create", "acme"), "already exists"),
        (("show", "nobody"), "Account 'nobody' does not exist"),
        (("limits", "nobody"), "Account 'nobody' does not exist"),
        (("limits", "nobody", "--per-minute", "5"), "Account 'nobody' does not exist"),
    ):
        result = flask(harness, "accounts", *words)
        assert result.exit_code == 1
        assert run_json in result.stderr
        assert "Traceback" not in result.output


def test_changing_one_limit_keeps_the_others(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "limited")
    assert json.loads(flask(harness, "accounts", "limits", "limited", "--json").stdout) == asdict(Limits())
    changed = json.loads(flask(harness, "accounts", "limits", "limited", "--per-minute", "600", "--json").stdout)
    assert (changed["per_minute"], changed["per_hour"]) == (600, 1000)
    again = json.loads(flask(harness, "accounts", "limits", "limited", "--concurrent", "5", "--json").stdout)
    assert (again["per_minute"], again["concurrent"]) == (600, 5)
    assert flask(harness, "accounts", "limits", "limited", "--per-minute", "0").exit_code == 2


def test_inconsistent_limits_are_refused_and_both_are_named(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "crossed")
    for given, run_json in (
        (("--per-minute", "10", "--per-hour", "5"), ("per_minute is 10", "per_hour is 5")),
        (("--per-hour", "50", "--per-day", "20"), ("per_hour is 50", "per_day is 20")),
        (("--per-minute", "1001"), ("per_minute is 1001", "per_hour is 1000")),
    ):
        refused = flask(harness, "accounts", "limits", "crossed", *given)
        assert refused.exit_code == 1
        assert all(words in refused.stderr for words in run_json), refused.stderr
    kept = json.loads(flask(harness, "accounts", "limits", "crossed", "--json").stdout)
    assert (kept["per_minute"], kept["per_hour"]) == (60, 1000)


def test_existing_inconsistent_limits_do_not_block_other_changes(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "crossed-before")
    harness.set_limits("crossed-before", per_hour=5)
    assert flask(harness, "accounts", "limits", "crossed-before", "--concurrent", "3").exit_code == 0
    assert flask(harness, "accounts", "limits", "crossed-before", "--per-day", "4").exit_code == 1


def test_valid_name_is_suggested_for_an_invalid_one(harness: AppHarness) -> None:
    assert "try acme-inc" in flask(harness, "accounts", "create", "Acme Inc").stderr
    assert "try" not in flask(harness, "accounts", "create", "株式会社").stderr


def test_migrations_status_and_upgrade(harness: AppHarness) -> None:
    status = flask(harness, "migrations", "status", "--account", "acme", "--json")
    assert status.exit_code == 0, status.output
    assert json.loads(status.stdout)[0]["account"] == "acme"
    assert flask(harness, "migrations", "upgrade", "--account", "acme").exit_code == 0
    assert flask(harness, "migrations", "upgrade", "--system").exit_code == 0
    assert flask(harness, "migrations", "upgrade").exit_code == 2


def test_development_token_is_accepted(harness: AppHarness) -> None:
    assert "token" in flask(harness, "dev", "--help").output
