"""The threat model and the security policy name tests, pages, targets and settings that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kataven.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [row for row in PAGE.partition("## Threats")[2].partition("\n## ")[0].splitlines() if row.startswith("| **")]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_a_class_a_defence_a_test_and_a_residual_risk() -> None:
    assert {re.match(r"\| \*\*(\w)\*\* ", row)[1] for row in ROWS} == set("STRIDE")  # type: ignore[index]
    for row in ROWS:
        threat, defence, tests, residual = (cell.strip() for cell in row.strip("|").split(" | "))
        assert defence
        assert residual
        assert "tests/" in tests or "by design" in defence, threat


def test_named_settings_and_make_targets_exist() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    settings = {name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", PAGE + policy)}
    assert settings <= set(Settings.model_fields)
    targets = set(re.findall(r"`make ([\w-]+)`", PAGE + policy))
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_links_of_the_project_files_lead_to_existing_files(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
