"""The documentation is correct: code samples run, configurations parse, options exist, tables have real values."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from kataven.client import errors, retries, sync
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.mcp_server import command
from kataven.mcp_server.callers import callers_with_keys
from kataven.mcp_server.tools import create_server
from kataven.web.compression import MIN_BYTES
from kataven.web.explanations import EXPLANATIONS
from kataven.web.http_conventions import ALIASES_DEPRECATED_AT
from kataven.web.problems import PROBLEM_TYPES
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import CHECKOUT, Gunicorn

DOCS = CHECKOUT / "docs"
OWNER = Persona("sample", "Sam", "samples", Role.OWNER)
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("how-to/*.md"))]


def samples(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for n, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            found.append((f"{page.name}-{n}", text))
    return found


PYTHON = samples("python")
TYPESCRIPT = samples("typescript")


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    new_account(harness.services, "samples")
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("samples") / "log") as running:
        yield running


def test_documentation_has_samples() -> None:
    assert {name.partition(".")[0] for name, _ in PYTHON} >= {"sdk"}


@pytest.mark.parametrize("sample", [text for _, text in PYTHON], ids=[name for name, _ in PYTHON])
def test_sample_runs(harness: AppHarness, server: Gunicorn, tmp_path: Path, sample: str) -> None:
    environ = {
        "KATAVEN_API_KEY": harness.new_key("samples"),
        "KATAVEN_BASE_URL": f"{server.url}/v1",
        "KATAVEN_TOKEN": harness.issuer.token(OWNER),
        "KATAVEN_ACCOUNT": OWNER.account,
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", sample],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.node
@pytest.mark.parametrize("sample", [text for _, text in TYPESCRIPT], ids=[name for name, _ in TYPESCRIPT])
def test_typescript_sample_runs(harness: AppHarness, server: Gunicorn, tmp_path: Path, sample: str) -> None:
    """The samples have no type annotations, so Node.js runs them as they are."""
    (tmp_path / "sample.mjs").write_text(sample)
    environ = {"KATAVEN_API_KEY": harness.new_key("samples"), "KATAVEN_BASE_URL": f"{server.url}/v1"}
    ran = subprocess.run(
        ["node", "sample.mjs"],
        cwd=tmp_path,
        env={**environ, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("samples ")


@pytest.mark.parametrize("sample", [text for _, text in samples("json")], ids=[name for name, _ in samples("json")])
def test_json_sample_parses(sample: str) -> None:
    assert json.loads(sample)


def test_every_error_code_is_documented_with_its_explanation() -> None:
    page = (DOCS / "errors.md").read_text()
    rows = dict(re.findall(r"^\| (`\w+` \| \d{3}) \| (.*) \|$", page, re.MULTILINE))
    assert rows == {f"`{kind.code}` | {kind.status}": EXPLANATIONS[kind.code] for kind in PROBLEM_TYPES.values()}


def test_every_mcp_tool_is_documented_with_its_description() -> None:
    rows = dict(re.findall(r"^\| `(kataven_\w+)` \| .* \| (\w+) \|$", (DOCS / "mcp.md").read_text(), re.MULTILINE))
    tools = anyio.run(_server().list_tools)
    words = {(True, False): "reads", (False, False): "adds", (False, True): "changes"}
    hints = {tool.name: tool.annotations for tool in tools}
    assert rows == {name: words[bool(one.read_only_hint), bool(one.destructive_hint)] for name, one in hints.items()}


def _server() -> MCPServer:
    return create_server(callers_with_keys(None))


def test_documented_options_of_the_mcp_server_equal_the_real_ones() -> None:
    page = re.sub(r"(?m)^ {4}claude mcp add .*$", "", (DOCS / "mcp.md").read_text())  # the options of another program
    options = set(command.parser()._option_string_actions) - {"-h", "--help"}
    assert set(re.findall(r"--[a-z][a-z-]*", page)) == options


def test_sdk_has_the_documented_methods() -> None:
    page = (DOCS / "sdk.md").read_text()
    for resource, kind in (
        ("agents", sync.Agents),
        ("widget_keys", sync.WidgetKeys),
        ("widget_settings", sync.WidgetSettings),
        ("api_keys", sync.ApiKeys),
    ):
        row = re.search(rf"^\| `{resource}` \| (.*) \|$", page, re.MULTILINE)
        assert row is not None
        assert set(re.findall(r"`(\w+)`", row[1])) == {name for name in vars(kind) if not name.startswith("_")}
    assert "waits half a second" in page
    assert retries.FIRST_WAIT_SECONDS == 0.5


def test_every_sdk_error_is_documented() -> None:
    page = (DOCS / "sdk.md").read_text()
    family = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert set(re.findall(r"`(\w+(?:Error|Failed|TimedOut|Response))`", page)) == family


def test_documented_http_figures_equal_the_real_ones() -> None:
    page = (DOCS / "http.md").read_text()
    assert f"{MIN_BYTES:,} bytes" in page
    assert f"{ALIASES_DEPRECATED_AT:%-d %B}" in page.replace("\n", " ")
