"""`kataven completion`: the scripts complete commands and options in real shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gunicorn import CHECKOUT
from tests.support.installed import require_program
from tests.support.program import unconfigured

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def path_with_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `kataven` is this checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "kataven"
    program.write_text(f'#!/bin/sh\ncd {CHECKOUT} && exec {sys.executable} -m kataven "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def run(path: str, *command: str) -> str:
    environ = {**os.environ, "PATH": path, "HOME": "/nonexistent"}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_printed_without_settings_and_has_the_shells_syntax(shell: str, tmp_path: Path) -> None:
    printed = unconfigured("completion", shell)
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert "_KATAVEN_COMPLETE" in printed.stdout
    script = tmp_path / "script"
    script.write_text(printed.stdout)
    run(os.environ["PATH"], require_program(shell, "NODE_TESTS"), "-n", str(script))


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("kataven ke", {"keys"}),
        ("kataven keys ", {"create", "list", "revoke", "show"}),
        ("kataven keys revoke --", {"--account", "--help", "--json", "--secret-stdin"}),
        ("kataven keys list --account acme --status ex", {"expired"}),
    ],
)
def test_bash_completes_commands_options_and_values(path_with_program: str, line: str, completed: set[str]) -> None:
    words = line.split(" ")
    script = f"""
        eval "$(kataven completion bash)"
        COMP_WORDS=({" ".join(word or "''" for word in words)}); COMP_CWORD={len(words) - 1}
        _kataven_completion kataven
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    found = run(path_with_program, require_program("bash", "NODE_TESTS"), "--norc", "-c", script).split()
    assert completed <= set(found)
    assert all(word.startswith(words[-1]) for word in found)


def test_fish_completes_commands(path_with_program: str, tmp_path: Path) -> None:
    script = 'kataven completion fish | source; complete -C "kataven keys rev"'
    environ = f"HOME={tmp_path}"
    found = run(path_with_program, "env", environ, require_program("fish", "NODE_TESTS"), "--no-config", "-c", script)
    assert found.startswith("revoke\tRevoke an API key.")


def test_zsh_completes_commands(path_with_program: str) -> None:
    """The function is called with stand-ins for zsh's own completion functions, which need a terminal."""
    script = """
        compdef() { }
        _describe() { print -l "${(@P)3}" }
        compadd() { print -l -- "$@" }
        eval "$(kataven completion zsh)"
        words=(kataven keys re); CURRENT=3
        _kataven_completion
    """
    found = run(path_with_program, require_program("zsh", "NODE_TESTS"), "-f", "-c", script)
    assert "revoke:Revoke an API key." in found


def test_unknown_shell_is_refused() -> None:
    refused = unconfigured("completion", "tcsh")
    assert refused.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in refused.stderr
