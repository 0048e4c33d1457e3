"""The program `kataven`: start-up, help, suggestions, exit statuses, and the same commands as `flask`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kataven import __version__
from kataven.commands import account_import, accounts, tree
from kataven.commands.groups import LazyGroup
from kataven.commands.program import cli
from kataven.operations import account_file
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT
from tests.support.program import kataven, kataven_json, leaves, unconfigured

HEAVY = ("alembic", "cryptography", "flask", "grpc", "httpx2", "psycopg2", "pydantic", "redis", "rich", "sqlalchemy")
WITHOUT_JSON = {
    "accounts shell": "runs psql",
    "completion": "prints a script",
    "events poll": "is a service that logs JSON",
    "migrations carry-out": "is started by the console",
    "revocation canary": "is a service that logs JSON",
}
ONLY_HERE = {"completion"}
"""Commands that `flask` does not have."""

IMPORTS = """
import sys
from kataven.commands.program import cli
for words in sys.argv[1].split(","):
    cli(words.split(), standalone_mode=False, prog_name="kataven")
print("loaded:", *sorted(name for name in sys.modules if "." not in name))
"""


def run(*words: str, program: tuple[str, ...] = (sys.executable, "-m", "kataven")) -> subprocess.CompletedProcess[str]:
    """Run the real program without settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KATAVEN_", "FLASK_"))}
    environ["KATAVEN_DATA_DIR"] = "/nowhere"
    return subprocess.run(
        [*program, *words], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=100, check=False
    )


def loaded_by(*commands: str) -> set[str]:
    result = run(",".join(commands), program=(sys.executable, "-c", IMPORTS))
    assert (result.returncode, result.stderr) == (0, "")
    return set(result.stdout.rpartition("loaded:")[2].split())


def test_help_of_the_program_and_of_every_group_loads_no_heavy_library() -> None:
    groups = [name for name in tree.COMMANDS if isinstance(tree.COMMANDS[name].load(), click.Group)]
    loaded = loaded_by("--help", "keys create --help", *(f"{name} --help" for name in groups))
    assert "click" in loaded
    assert loaded & set(HEAVY) == set()


NOT_FOR_LISTS = {
    *("alembic", "authlib", "flask", "google", "grpc", "httpx2", "mako", "prometheus_client", "rich", "structlog"),
}


def test_commands_that_list_load_no_web_framework_no_http_client_and_no_migrations(harness: AppHarness) -> None:
    environ = {**os.environ, **harness.environ}
    script = f"import sys\nfrom kataven.commands import program\n{IMPORTS_AND_RUN}"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert set(result.stdout.rpartition("loaded:")[2].split()) & NOT_FOR_LISTS == set()


IMPORTS_AND_RUN = """
from kataven.commands.context import from_environment
for words in (["accounts", "list"], ["keys", "list", "--account", "acme"]):
    program.cli(words, standalone_mode=False, obj=from_environment())
print("loaded:", *sorted(name for name in sys.modules if "." not in name))
"""


def test_listed_help_texts_are_those_of_the_commands() -> None:
    for name, entry in {**tree.COMMANDS, **tree.DEVELOPMENT}.items():
        assert entry.short_help == entry.load().get_short_help_str(200), name


def test_program_without_settings_prints_help_version_and_every_commands_help() -> None:
    helped = unconfigured("--help")
    assert helped.exit_code == 0
    assert helped.stdout.startswith("Usage: kataven [OPTIONS] COMMAND")
    assert "Operate Kataven Hub" in helped.stdout
    assert all(f"\n  {name} " in helped.stdout for name in tree.COMMANDS)
    assert "  dev " not in helped.stdout
    assert unconfigured("--version").stdout == f"kataven {__version__}\n"
    for path, _ in leaves():
        shown = unconfigured(*path, "--help")
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout.startswith(f"Usage: kataven {' '.join(path)} ")


def test_real_program_prints_help_and_reports_missing_settings() -> None:
    helped = run("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    refused = run("accounts", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "KATAVEN_DATABASE_URL: is missing" in refused.stderr
    assert "make run" in refused.stderr


def test_script_of_the_checkout_runs_from_another_folder(tmp_path: Path) -> None:
    """The script is copied into `.venv/bin`, which can be a link to another checkout's environment."""
    checkout, environment = tmp_path / "checkout", tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    checkout.mkdir()
    (checkout / "kataven").symlink_to(CHECKOUT / "kataven")
    (checkout / ".venv").symlink_to(environment)
    (environment / "bin" / "python").symlink_to(sys.executable)
    script = checkout / ".venv" / "bin" / "kataven"
    script.write_bytes((CHECKOUT / "tools" / "kataven").read_bytes())
    script.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path)}
    result = subprocess.run(
        [script, "--version"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == (f"kataven {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (("acounts",), "Did you mean 'accounts'?"),
        (("key",), "Did you mean 'keys'?"),
        (("keys", "revok"), "Did you mean 'revoke'?"),
        (("accounts", "list", "--statsu", "active"), "Did you mean '--status'?"),
        (("accounts", "list", "--status", "activ"), "'activ' is not one of"),
    ],
)
def test_unknown_command_or_option_is_answered_with_the_nearest_one(words: tuple[str, ...], suggested: str) -> None:
    refused = unconfigured(*words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert suggested in refused.stderr


def test_unknown_command_does_not_suggest_a_hidden_one() -> None:
    assert "dev" not in unconfigured("de").stderr


def test_every_command_without_settings_fails_with_status_1_and_lists_the_problems() -> None:
    values = dict.fromkeys(("run_id", "key_id"), "00000000-0000-4000-8000-000000000000") | {"file": __file__}
    required = {"--account": "acme", "--name": "x"}
    for path, command in leaves():
        if path == ("completion",):
            continue
        arguments = [
            str(values.get(str(one.name), "acme")) for one in command.params if isinstance(one, click.Argument)
        ]
        for option in command.params:
            if isinstance(option, click.Option) and option.required:
                arguments += [option.opts[0], required[option.opts[0]]]
        refused = unconfigured(*path, *arguments)
        assert refused.exit_code == 1, (path, refused.output)
        assert "KATAVEN_PEPPERS" in refused.output, path
        assert "is missing" in refused.output, path


def test_every_command_has_json_output_or_a_reason() -> None:
    without = set()
    for path, command in leaves():
        if not any("--json" in option.opts for option in command.params):
            without.add(" ".join(path))
    assert without == set(WITHOUT_JSON)


def test_every_option_has_a_help_text() -> None:
    for path, command in leaves():
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (path, option.name)


def test_flask_has_the_same_commands(harness: AppHarness) -> None:
    ours = {
        name: entry.load() for name, entry in {**tree.COMMANDS, **tree.DEVELOPMENT}.items() if name not in ONLY_HERE
    }
    assert {name: command for name, command in harness.app.cli.commands.items() if name in ours} == ours


def test_flask_and_kataven_print_the_same(harness: AppHarness) -> None:
    words = ("accounts", "show", "acme", "--json")
    assert harness.app.test_cli_runner().invoke(args=list(words)).stdout == kataven(harness, *words).stdout


def test_messages_name_the_program_that_was_called(harness: AppHarness) -> None:
    words = ("keys", "list", "--account", "globex", "--json")
    assert kataven(harness, *words).exit_code == 0
    accounts_of = ("accounts", "list", "--status", "provisioning")
    assert "Create one: kataven accounts create NAME" in kataven(harness, *accounts_of).stdout
    assert "Create one: flask accounts create NAME" in harness.app.test_cli_runner().invoke(args=[*accounts_of]).stdout


def test_values_that_are_repeated_for_a_fast_start_are_the_real_ones() -> None:
    assert list(accounts.STATUSES) == [str(status) for status in AccountStatus]
    assert ("account", *account_import.COLUMNS) == account_file.COLUMNS


def test_development_token_is_refused_in_production(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    from kataven.settings import Settings

    monkeypatch.setattr(Settings, "development", property(lambda _: False))
    refused = kataven(harness, "dev", "token", "--account", "acme")
    assert refused.exit_code == 1
    assert "requires KATAVEN_ENV=development" in refused.stderr


# Limits.


def test_limits_are_shown_and_changed_for_an_account_and_a_key(harness: AppHarness) -> None:
    kataven_json(harness, "accounts", "create", "limits-of-program")
    account = ("--account", "limits-of-program")
    key = kataven_json(harness, "keys", "create", *account, "--name", "x")["id"]
    assert kataven_json(harness, "limits", "set", *account, "--per-minute", "30")["per_minute"] == 30
    assert kataven_json(harness, "limits", "show", *account)["per_minute"] == 30
    assert kataven_json(harness, "limits", "set", *account, "--key", key, "--per-minute", "5")["per_minute"] == 5
    assert kataven_json(harness, "limits", "show", *account, "--key", key)["per_minute"] == 5
    assert kataven_json(harness, "limits", "set", *account, "--key", key, "--clear")["per_minute"] is None


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 2, "Nothing to change"),
        (("--clear",), 2, "--clear can only be used with --key"),
        (("--per-minute", "10", "--per-hour", "5"), 1, "per_minute is 10 and per_hour is 5"),
        (("--per-minute", "abc"), 2, "'--per-minute': must be a whole number from 1 to"),
        (("--per-minute", "0"), 2, "must be a whole number from 1 to"),
    ],
)
def test_unusable_limits_are_refused(harness: AppHarness, words: tuple[str, ...], status: int, message: str) -> None:
    refused = kataven(harness, "limits", "set", "--account", "acme", *words)
    assert (refused.exit_code, refused.stdout) == (status, "")
    assert message in refused.stderr


def test_json_of_commands_that_printed_only_text(harness: AppHarness) -> None:
    created = kataven_json(harness, "widget", "new-key", "2026z")
    assert created["key"].startswith("2026z:")
    assert json.loads(kataven(harness, "peppers", "status", "--json").stdout)


def test_group_is_loaded_once_and_lists_its_commands() -> None:
    group = cli.get_command(click.Context(cli), "keys")
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == [
        "create",
        "end-former-secret",
        "list",
        "pause",
        "resume",
        "revoke",
        "rotate",
        "show",
    ]
    assert isinstance(cli, LazyGroup)
