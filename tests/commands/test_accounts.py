"""`flask accounts …`, as an operator types it."""

from __future__ import annotations

import json

from click.testing import Result

from tests.support.app_harness import AppHarness


def flask(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=list(words))


def test_create_show_and_list(harness: AppHarness) -> None:
    created = flask(harness, "accounts", "create", "umbrella", "--name", "Umbrella Ltd", "--org-id", "org-u", "--json")
    assert created.exit_code == 0, created.output
    account = json.loads(created.stdout)
    assert (account["account"], account["name"], account["status"]) == ("umbrella", "Umbrella Ltd", "active")
    assert json.loads(flask(harness, "accounts", "show", "umbrella", "--json").stdout) == account
    listed = json.loads(flask(harness, "accounts", "list", "--json").stdout)
    assert "umbrella" in [row["account"] for row in listed]
    assert "umbrella" in flask(harness, "accounts", "list").stdout


def test_what_goes_wrong_is_one_line_and_a_status(harness: AppHarness) -> None:
    for words, said in (
        (("create", "Nope"), "lower-case"),
        (("create", "postgres"), "reserved"),
        (("create", "acme"), "already exists"),
        (("show", "nobody"), "Account 'nobody' does not exist"),
        (("limits", "nobody"), "Account 'nobody' does not exist"),
        (("limits", "nobody", "--per-minute", "5"), "Account 'nobody' does not exist"),
    ):
        result = flask(harness, "accounts", *words)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_limits_are_changed_one_by_one_and_kept(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "limited")
    assert json.loads(flask(harness, "accounts", "limits", "limited", "--json").stdout) == {
        "per_minute": 60,
        "per_hour": 1000,
        "per_day": 10000,
        "concurrent": 20,
    }
    changed = json.loads(flask(harness, "accounts", "limits", "limited", "--per-minute", "600", "--json").stdout)
    assert (changed["per_minute"], changed["per_hour"]) == (600, 1000)
    again = json.loads(flask(harness, "accounts", "limits", "limited", "--concurrent", "5", "--json").stdout)
    assert (again["per_minute"], again["concurrent"]) == (600, 5)
    assert flask(harness, "accounts", "limits", "limited", "--per-minute", "0").exit_code == 2


def test_limits_that_contradict_each_other_are_refused_with_both(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "crossed")
    for given, said in (
        (("--per-minute", "10", "--per-hour", "5"), ("per_minute is 10", "per_hour is 5")),
        (("--per-hour", "50", "--per-day", "20"), ("per_hour is 50", "per_day is 20")),
        (("--per-minute", "1001"), ("per_minute is 1001", "per_hour is 1000")),
    ):
        refused = flask(harness, "accounts", "limits", "crossed", *given)
        assert refused.exit_code == 1
        assert all(words in refused.stderr for words in said), refused.stderr
    kept = json.loads(flask(harness, "accounts", "limits", "crossed", "--json").stdout)
    assert (kept["per_minute"], kept["per_hour"]) == (60, 1000)


def test_an_older_contradiction_does_not_stand_in_the_way_of_another_limit(harness: AppHarness) -> None:
    flask(harness, "accounts", "create", "crossed-before")
    harness.set_limits("crossed-before", per_hour=5)
    assert flask(harness, "accounts", "limits", "crossed-before", "--concurrent", "3").exit_code == 0
    assert flask(harness, "accounts", "limits", "crossed-before", "--per-day", "4").exit_code == 1


def test_a_name_that_can_be_mended_is_suggested(harness: AppHarness) -> None:
    assert "try acme-inc" in flask(harness, "accounts", "create", "Acme Inc").stderr
    assert "try" not in flask(harness, "accounts", "create", "株式会社").stderr


def test_migrations_status_and_upgrade(harness: AppHarness) -> None:
    status = flask(harness, "migrations", "status", "--account", "acme", "--json")
    assert status.exit_code == 0, status.output
    assert json.loads(status.stdout)[0]["account"] == "acme"
    assert flask(harness, "migrations", "upgrade", "--account", "acme").exit_code == 0
    assert flask(harness, "migrations", "upgrade", "--system").exit_code == 0
    assert flask(harness, "migrations", "upgrade").exit_code == 2


def test_a_development_token_is_accepted(harness: AppHarness) -> None:
    assert "token" in flask(harness, "dev", "--help").output
