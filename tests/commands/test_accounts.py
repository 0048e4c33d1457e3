"""`flask accounts …`, as an operator types it."""

from __future__ import annotations

import json

from click.testing import Result

from tests.support.house import House


def flask(house: House, *words: str) -> Result:
    return house.app.test_cli_runner().invoke(args=list(words))


def test_create_show_and_list(house: House) -> None:
    created = flask(house, "accounts", "create", "umbrella", "--name", "Umbrella Ltd", "--org-id", "org-u", "--json")
    assert created.exit_code == 0, created.output
    account = json.loads(created.stdout)
    assert (account["account"], account["name"], account["status"]) == ("umbrella", "Umbrella Ltd", "active")
    assert json.loads(flask(house, "accounts", "show", "umbrella", "--json").stdout) == account
    listed = json.loads(flask(house, "accounts", "list", "--json").stdout)
    assert "umbrella" in [row["account"] for row in listed]
    assert "umbrella" in flask(house, "accounts", "list").stdout


def test_what_goes_wrong_is_one_line_and_a_status(house: House) -> None:
    for words, said in (
        (("create", "Nope"), "lower-case"),
        (("create", "postgres"), "reserved"),
        (("create", "acme"), "exists already"),
        (("show", "nobody"), "There is no account 'nobody'"),
        (("limits", "nobody"), "There is no account 'nobody'"),
        (("limits", "nobody", "--per-minute", "5"), "There is no account 'nobody'"),
    ):
        result = flask(house, "accounts", *words)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_limits_are_changed_one_by_one_and_kept(house: House) -> None:
    flask(house, "accounts", "create", "limited")
    assert json.loads(flask(house, "accounts", "limits", "limited", "--json").stdout) == {
        "per_minute": 60,
        "per_hour": 1000,
        "per_day": 10000,
        "concurrent": 20,
    }
    changed = json.loads(flask(house, "accounts", "limits", "limited", "--per-minute", "600", "--json").stdout)
    assert (changed["per_minute"], changed["per_hour"]) == (600, 1000)
    again = json.loads(flask(house, "accounts", "limits", "limited", "--concurrent", "5", "--json").stdout)
    assert (again["per_minute"], again["concurrent"]) == (600, 5)
    assert flask(house, "accounts", "limits", "limited", "--per-minute", "0").exit_code == 2


def test_migrations_status_and_upgrade(house: House) -> None:
    status = flask(house, "migrations", "status", "--account", "acme", "--json")
    assert status.exit_code == 0, status.output
    assert json.loads(status.stdout)[0]["account"] == "acme"
    assert flask(house, "migrations", "upgrade", "--account", "acme").exit_code == 0
    assert flask(house, "migrations", "upgrade", "--system").exit_code == 0
    assert flask(house, "migrations", "upgrade").exit_code == 2


def test_a_development_token_is_accepted(house: House) -> None:
    assert "token" in flask(house, "dev", "--help").output
