"""`flask widget keys|new-key`."""

from __future__ import annotations

import json

from kataven.identity.signing import SigningKey
from tests.commands.test_accounts import flask
from tests.support.app_harness import AppHarness


def test_ring_is_listed_without_private_parts(harness: AppHarness) -> None:
    secret = harness.environ["KATAVEN_WIDGET_SIGNING_KEYS"].partition(":")[2]
    listed = flask(harness, "widget", "keys", "--json")
    assert listed.exit_code == 0, listed.output
    [row] = json.loads(listed.stdout)
    assert (row["kid"], row["role"]) == ("dev1", "signs")
    assert secret not in listed.output
    assert "signs" in flask(harness, "widget", "keys").stdout


def test_new_key_is_printed_in_the_format_of_the_setting(harness: AppHarness) -> None:
    made = flask(harness, "widget", "new-key", "2026b").stdout.strip()
    assert SigningKey.parse(made).id == "2026b"
    assert flask(harness, "widget", "new-key", "2026b").stdout.strip() != made


def test_error_is_one_line_and_an_exit_status(harness: AppHarness) -> None:
    for words, run_json in (
        (("new-key", "dev1"), "Use a different id"),
        (("new-key", "Not an id"), "1 to 32 of a-z"),
        (("new-key", "a:b"), "1 to 32 of a-z"),
    ):
        result = flask(harness, "widget", *words)
        assert result.exit_code == 1
        assert run_json in result.stderr
        assert "Traceback" not in result.output
