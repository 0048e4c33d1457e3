"""The files for contributors are consistent: make targets, import contracts, hooks, templates, editor settings and the
overview image."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import yaml

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()


def phony_targets() -> set[str]:
    found = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def test_make_help_lists_every_command_with_the_documented_text() -> None:
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"^ {2}make ([a-z-]+) +(.*)$", printed, re.MULTILINE))
    assert set(listed) == phony_targets()
    page = (ROOT / "docs" / "development.md").read_text()
    assert dict(re.findall(r"^ {4}make ([a-z-]+) +(.*)$", page, re.MULTILINE)) == listed


def test_contracts_about_the_rest_of_the_project_name_all_of_it() -> None:
    """import-linter has no "everything else": a new package must be added to each of these contracts."""
    modules = {
        f"kataven.{path.stem}"
        for path in (ROOT / "kataven").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"kataven.__init__", "kataven.__main__"}
    allowed: dict[str, set[str]] = {
        "Telemetry imports only the trace context": {"kataven.tracing", "kataven.random_ids"},
        "Redis clients import nothing else of the project": set(),
        "Embedded servers import nothing else of the project": {"kataven.dev"},  # its parent: siblings are listed
        "The client imports nothing else of the project": set(),
        "The MCP server imports the client, `validation` and nothing else of the project": {
            "kataven.client",
            "kataven.validation",
        },
    }
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = {contract["name"]: contract for contract in contracts if contract["name"] in allowed}
    assert set(checked) == set(allowed)
    for name, contract in checked.items():
        rest = modules - set(contract["source_modules"]) - allowed[name]
        assert rest - set(contract["forbidden_modules"]) == set(), name


def test_hooks_run_make_targets_and_download_nothing() -> None:
    configured = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in configured["repos"]] == ["local"]
    for hook in configured["repos"][0]["hooks"]:
        program, target = hook["entry"].split()
        assert (program, hook["language"]) == ("make", "system")
        assert target in phony_targets()


def test_issue_forms_have_unique_fields_and_point_to_the_security_policy() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    assert yaml.safe_load((folder / "config.yml").read_text()) == {"blank_issues_enabled": False}
    for name in ("bug", "feature"):
        form = yaml.safe_load((folder / f"{name}.yml").read_text())
        assert form["name"]
        assert form["description"]
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert ids
        assert len(set(ids)) == len(ids)
    assert "SECURITY.md" in (folder / "bug.yml").read_text()


def test_overview_image_has_a_text_alternative_and_loads_nothing() -> None:
    root = ET.parse(ROOT / "docs" / "overview.svg").getroot()  # noqa: S314  # our own file
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    assert root.find(f"{space}desc") is not None
    assert not [value for part in root.iter() for name, value in part.attrib.items() if name.endswith("href")]
    assert "prefers-color-scheme: dark" in (ROOT / "docs" / "overview.svg").read_text()
