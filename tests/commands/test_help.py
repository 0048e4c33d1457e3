"""`flask …` without settings: the help is printed, and commands report the missing settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from flask import Flask

from kataven.commands import flask_commands
from kataven.commands.context import CommandContext
from kataven.operations.operator import OperatorServices
from kataven.settings import Settings, SettingsError
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT

MISSING = ["KATAVEN_DATABASE_URL: is missing", "KATAVEN_PEPPERS: is missing"]


def run_unconfigured(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the real program without settings in the environment or in a data folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KATAVEN_", "FLASK_"))}
    environ["KATAVEN_DATA_DIR"] = "/nowhere"
    program = [sys.executable, "-m", "flask", *words]
    return subprocess.run(program, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def unconfigured() -> Flask:
    def fail() -> Settings:
        raise SettingsError(MISSING)

    def build(_: Settings) -> OperatorServices:
        raise AssertionError("without settings, no services can be built")

    return flask_commands.without_app(development=False, context=CommandContext(fail, build, "flask"))


def leaves(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


def test_help_needs_no_settings() -> None:
    helped = run_unconfigured("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "accounts " in helped.stdout
    assert "limiter" not in helped.stdout, "commands of libraries are not listed"


def test_run_reports_missing_settings() -> None:
    refused = run_unconfigured("run", "--port", "0")
    assert refused.returncode == 1
    assert "KATAVEN_DATABASE_URL: is missing" in refused.stderr


def test_every_command_prints_help_and_reports_missing_settings(unconfigured: Flask) -> None:
    runner = unconfigured.test_cli_runner()
    tried = 0
    for path, command in leaves(unconfigured.cli):
        if path == ("doctor",):  # reports the settings as failed checks, on standard output
            continue
        helped = runner.invoke(args=[*path, "--help"])
        assert helped.exit_code == 0
        assert "Usage: " in helped.stdout
        arguments = [
            str(VALUES.get(str(one.name), "acme")) for one in command.params if isinstance(one, click.Argument)
        ]
        for option in command.params:
            if isinstance(option, click.Option) and option.required:
                arguments += [option.opts[0], "acme"]
        refused = runner.invoke(args=[*path, *arguments])
        assert refused.exit_code == 1, (path, refused.output)
        assert all(problem in refused.stderr for problem in MISSING), path
        assert "make run" in refused.stderr
        tried += 1
    assert tried >= 30


def test_commands_are_the_same_with_settings(harness: AppHarness, unconfigured: Flask) -> None:
    configured = {path for path, _ in leaves(harness.app.cli) if path[0] != "dev"}
    assert {path for path, _ in leaves(unconfigured.cli)} == configured


def test_every_option_has_a_help_text(harness: AppHarness) -> None:
    for path, command in leaves(harness.app.cli):
        for option in command.params:
            if isinstance(option, click.Option) and path[0] != "limiter":
                assert option.help, (path, option.name)


VALUES = dict.fromkeys(("run_id", "key_id"), "00000000-0000-4000-8000-000000000000") | {"file": __file__}


def test_server_that_is_a_click_command_gets_the_application(harness: AppHarness) -> None:
    """`flask` alone looks up its commands in an application without routes."""
    program = (
        "import click\n"
        "@click.command()\n"
        "def serve():\n"
        "    from wsgi import api\n"
        "    print(sum(rule.rule == '/v1/me' for rule in api.url_map.iter_rules()))\n"
        "serve()\n"
    )
    environ = {**os.environ, **harness.environ}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.strip() == "1", ended.stderr
