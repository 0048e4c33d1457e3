"""Runs `kataven` in this process, with the services of the test app."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner, Result

from kataven import settings
from kataven.commands.context import CommandContext
from kataven.commands.groups import LazyGroup
from kataven.commands.program import NAME, cli
from kataven.settings import Settings, SettingsError
from tests.support.app_harness import AppHarness


def kataven(harness: AppHarness, *words: str, stdin: str | None = None) -> Result:
    """Run a command. The services are those of the harness, so that a test can replace them."""
    configured = settings.load(harness.environ)
    context = CommandContext(lambda: configured, lambda _: harness.services, NAME)
    return CliRunner().invoke(cli, words, input=stdin, obj=context, prog_name=NAME)


def kataven_json(harness: AppHarness, *words: str, stdin: str | None = None) -> Any:
    result = kataven(harness, *words, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def unconfigured(*words: str) -> Result:
    """Run a command without settings."""

    def fail() -> Settings:
        raise SettingsError(["KATAVEN_DATABASE_URL: is missing", "KATAVEN_PEPPERS: is missing"])

    def build(_: Settings) -> Any:
        raise AssertionError("a command without settings must create no services")

    return CliRunner().invoke(cli, words, obj=CommandContext(fail, build, NAME), prog_name=NAME)


def leaves(group: click.Group = cli, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that are not groups, with their path."""
    context = click.Context(group)
    names = group.list_commands(context) if isinstance(group, LazyGroup) else sorted(group.commands)
    for name in names:
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command
