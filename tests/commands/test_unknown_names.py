"""Every command that takes a name or an id refuses an unknown one."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import click
import pytest

from kataven.commands import peppers
from tests.commands.test_accounts import flask
from tests.support.app_harness import AppHarness

NAMES = {"account", "accounts", "name", "server", "pepper", "run_id"}
"""Parameters that name an existing object."""
NEW = {"accounts create account", "accounts create name", "keys create name", "servers add name"}
"""Parameters that name a new object."""
UNKNOWN = {
    "accounts archive account": ["typo"],
    "accounts create server": ["fresh", "--server", "typo"],
    "accounts delete account": ["typo", "--yes-delete", "typo"],
    "accounts dump account": ["typo"],
    "accounts key-limits account": ["typo", "00000000-0000-0000-0000-000000000000"],
    "accounts email-domains account": ["typo"],
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
    "keys create account": ["--account", "typo", "--name", "x"],
    "keys list account": ["--account", "typo"],
    "keys pause account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "keys rotate account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "keys end-former-secret account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "keys resume account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "keys revoke account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "people end account": ["dana", "--account", "typo"],
    "keys show account": ["00000000-0000-0000-0000-000000000000", "--account", "typo"],
    "limits set account": ["--account", "typo", "--per-minute", "5"],
    "limits show account": ["--account", "typo"],
    "migrations carry-out run_id": [str(uuid4())],
    "migrations status accounts": ["--account", "typo"],
    "migrations upgrade accounts": ["--account", "typo"],
    "peppers retire pepper": ["typo"],
    "servers address name": ["typo"],
    "servers drain name": ["typo"],
    "servers remove name": ["typo"],
    "servers resume name": ["typo"],
}


def named(group: click.Group, *path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from named(command, *path, name)
        elif path:  # the project's commands are in groups
            yield from (" ".join((*path, name, str(one.name))) for one in command.params if one.name in NAMES)


def test_every_parameter_with_a_name_or_id_is_covered(harness: AppHarness) -> None:
    assert set(named(harness.app.cli)) - NEW == set(UNKNOWN)


@pytest.mark.parametrize("parameter", UNKNOWN)
def test_unknown_name_or_id_is_refused(harness: AppHarness, parameter: str) -> None:
    group, command, _ = parameter.split()
    result = flask(harness, group, command, *UNKNOWN[parameter])
    assert result.exit_code in {1, 2}, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_unknown_pepper_is_refused_and_the_ring_is_listed(harness: AppHarness) -> None:
    refused = flask(harness, "peppers", "retire", "dve1")
    assert refused.exit_code == 2
    assert "'dve1'" in refused.stderr
    assert "only dev1." in refused.stderr
    assert "Remove it" not in refused.output


def test_only_an_older_pepper_can_be_retired(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peppers, "_in_use", lambda: ({}, []))
    monkeypatch.setattr(harness.services.issuer, "pepper_ids", lambda: ("2099a", "dev1"))
    refused = flask(harness, "peppers", "retire", "2099a")
    assert refused.exit_code == 1
    assert "is the current one" in refused.stderr
    retired = flask(harness, "peppers", "retire", "dev1")
    assert (retired.exit_code, "Remove it" in retired.stdout) == (0, True)
