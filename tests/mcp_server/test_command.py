"""`kataven-mcp` from its command line: refusals on stderr, and nothing but the protocol on stdout."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib

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


def test_without_a_key_it_says_so_and_ends(api: Gunicorn) -> None:
    ended = run(api)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "KATAVEN_API_KEY" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_key_is_not_repeated(api: Gunicorn) -> None:
    broken = tokens.generate(TokenKind.API_KEY, "acme").text + "x"
    ended = run(api, key=broken)
    assert ended.returncode == 2
    assert broken not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["--base-url", "http://api.example/v1"], ["--http", "--base-url", "http://api.example/v1"]]
)
def test_a_url_that_is_not_safe_is_refused(api: Gunicorn, arguments: list[str]) -> None:
    ended = run(api, *arguments, key=tokens.generate(TokenKind.API_KEY, "acme").text)
    assert ended.returncode == 2
    assert "https" in ended.stderr


def test_an_address_that_others_can_reach_wants_a_name(api: Gunicorn) -> None:
    ended = run(api, "--http", "--host", "0.0.0.0")  # noqa: S104
    assert ended.returncode == 2
    assert "--allowed-host" in ended.stderr


def test_junk_on_stdin_gives_no_traceback_and_no_key(api: Gunicorn) -> None:
    key = tokens.generate(TokenKind.API_KEY, "acme").text
    ended = run(api, key=key, stdin=f"junk\n{key}\n")
    assert ended.returncode == 0
    assert key not in ended.stdout


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert command.main([]) == 2
    assert "kataven-hub[mcp]" in capsys.readouterr().err


def test_the_script_of_the_package_is_this_command() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["kataven-mcp"].partition(":")
    assert getattr(importlib.import_module(module), name) is command.main
    assert any(wanted.startswith("mcp>=") for wanted in project["optional-dependencies"]["mcp"])
