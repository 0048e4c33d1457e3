"""Tests the command `kataven-mcp`: errors go to stderr, and stdout has only the protocol."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Callable

import pytest

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.mcp_server import command
from tests.mcp_server.conftest import environ
from tests.support.gunicorn import CHECKOUT, Gunicorn


def run(api: Gunicorn, *arguments: str, key: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kataven.mcp_server", *arguments],
        cwd=CHECKOUT,
        env=environ(api, key),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def run_here(
    api: Gunicorn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the command in this process, for arguments that it refuses. Returns the exit status and the errors."""

    def run_here(*arguments: str, key: str | None = None) -> tuple[int, str]:
        monkeypatch.setenv("KATAVEN_BASE_URL", environ(api)["KATAVEN_BASE_URL"])
        if key is None:
            monkeypatch.delenv("KATAVEN_API_KEY", raising=False)
        else:
            monkeypatch.setenv("KATAVEN_API_KEY", key)
        return command.main(list(arguments)), capsys.readouterr().err

    return run_here


def test_missing_key_exits_with_an_error_that_names_the_variable(api: Gunicorn) -> None:
    finished = run(api)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "KATAVEN_API_KEY" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_malformed_key_is_not_repeated_in_the_error(run_here: Callable[..., tuple[int, str]]) -> None:
    broken = tokens.generate(TokenKind.API_KEY, "acme").text + "x"
    status, errors = run_here(key=broken)
    assert status == 2
    assert broken not in errors


@pytest.mark.parametrize(
    "arguments", [["--base-url", "http://api.example/v1"], ["--http", "--base-url", "http://api.example/v1"]]
)
def test_unencrypted_base_url_is_refused(run_here: Callable[..., tuple[int, str]], arguments: list[str]) -> None:
    status, errors = run_here(*arguments, key=tokens.generate(TokenKind.API_KEY, "acme").text)
    assert status == 2
    assert "https" in errors


def test_public_listen_address_requires_allowed_host(run_here: Callable[..., tuple[int, str]]) -> None:
    status, errors = run_here("--http", "--host", "0.0.0.0")  # noqa: S104
    assert status == 2
    assert "--allowed-host" in errors


def test_invalid_stdin_does_not_crash_the_server_or_print_the_key(api: Gunicorn) -> None:
    key = tokens.generate(TokenKind.API_KEY, "acme").text
    finished = run(api, key=key, stdin=f"junk\n{key}\n")
    assert finished.returncode == 0
    assert key not in finished.stdout


def test_missing_extra_prints_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert command.main([]) == 2
    assert command.INSTALL in capsys.readouterr().err


def test_package_declares_the_script_and_the_extra() -> None:
    project = tomllib.loads((CHECKOUT / "sdk" / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["kataven-mcp"].partition(":")
    assert getattr(importlib.import_module(module), name) is command.main
    assert any(wanted.startswith("mcp>=") for wanted in project["optional-dependencies"]["mcp"])
