"""A name or an id that is not there is refused, by every command that takes one."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import click
import pytest

from kataven.commands import peppers
from tests.commands.test_accounts import flask
from tests.support.app_harness import AppHarness

NAMES = {"account", "accounts", "name", "server", "pepper", "run_id"}
"""Parameters that name something that has to be there."""
NEW = {"accounts create account", "accounts create name", "servers add name"}
"""Those that name something new."""
UNKNOWN = {
    "accounts archive account": ["typo"],
    "accounts create server": ["fresh", "--server", "typo"],
    "accounts delete account": ["typo", "--yes-delete", "typo"],
    "accounts dump account": ["typo"],
    "accounts key-limits account": ["typo", "00000000-0000-0000-0000-000000000000"],
    "accounts limits account": ["typo"],
    "accounts load account": ["typo", "--from", __file__, "--yes-replace", "typo"],
    "accounts policy account": ["typo", "--no-max-key-expiry"],
    "accounts restore account": ["typo"],
    "accounts restore server": ["typo", "--from", __file__, "--server", "typo"],
    "accounts resume account": ["typo"],
    "accounts shell account": ["typo"],
    "accounts show account": ["typo"],
    "accounts suspend account": ["typo"],
    "dev token account": ["--account", "typo"],
    "migrations carry-out run_id": [str(uuid4())],
    "migrations status accounts": ["--account", "typo"],
    "migrations upgrade accounts": ["--account", "typo"],
    "peppers retire pepper": ["typo"],
    "servers drain name": ["typo"],
    "servers remove name": ["typo"],
    "servers resume name": ["typo"],
}


def named(group: click.Group, *path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from named(command, *path, name)
        elif path:  # ours are in groups
            yield from (" ".join((*path, name, str(one.name))) for one in command.params if one.name in NAMES)


def test_every_parameter_that_names_something_is_tried(harness: AppHarness) -> None:
    assert set(named(harness.app.cli)) - NEW == set(UNKNOWN)


@pytest.mark.parametrize("parameter", UNKNOWN)
def test_what_is_not_there_is_refused(harness: AppHarness, parameter: str) -> None:
    group, command, _ = parameter.split()
    result = flask(harness, group, command, *UNKNOWN[parameter])
    assert result.exit_code in {1, 2}, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_a_pepper_that_the_ring_has_not_is_refused_with_those_that_it_has(harness: AppHarness) -> None:
    refused = flask(harness, "peppers", "retire", "dve1")
    assert refused.exit_code == 2
    assert "'dve1'" in refused.stderr
    assert "only dev1." in refused.stderr
    assert "Remove it" not in refused.output


def test_the_current_pepper_is_not_retired_and_an_older_one_is(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peppers, "_in_use", lambda: ({}, []))
    monkeypatch.setattr(harness.services.issuer, "pepper_ids", lambda: ("2099a", "dev1"))
    refused = flask(harness, "peppers", "retire", "2099a")
    assert refused.exit_code == 1
    assert "is the current one" in refused.stderr
    retired = flask(harness, "peppers", "retire", "dev1")
    assert (retired.exit_code, "Remove it" in retired.stdout) == (0, True)
