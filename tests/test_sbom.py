"""The bill of materials lists exactly what the production lock installs, with its hashes and its dependency graph."""

from __future__ import annotations

import re

import pytest

from tools.sbom import LOCK, PROJECT, SbomError, document, read_lock

PACKAGES = read_lock(LOCK.read_text())
BOM = document(PACKAGES)


def test_components_are_the_packages_of_the_lock() -> None:
    pinned = re.findall(r"^([\w.-]+)==([^ ]+)", LOCK.read_text(), re.MULTILINE)
    assert [(component["name"], component["version"]) for component in BOM["components"]] == pinned
    hashes = [
        one["value"] for component in BOM["components"] for one in component["properties"] if "sha256" in one["name"]
    ]
    assert len(hashes) == LOCK.read_text().count("--hash=sha256:")


def test_every_component_is_reached_from_the_project() -> None:
    needs = {entry["ref"]: entry["dependsOn"] for entry in BOM["dependencies"]}
    root = BOM["metadata"]["component"]["bom-ref"]
    reached, remaining = set(), [root]
    while remaining:
        ref = remaining.pop()
        if ref not in reached:
            reached.add(ref)
            remaining += needs[ref]
    assert reached == {root} | {component["bom-ref"] for component in BOM["components"]}
    assert root.startswith(f"pkg:pypi/{PROJECT}@")


def test_installed_packages_have_a_licence() -> None:
    without = {component["name"] for component in BOM["components"] if "licenses" not in component}
    assert without <= {component["name"] for component in BOM["components"] if component.get("scope") == "optional"}


def test_the_same_lock_gives_the_same_document() -> None:
    assert document(PACKAGES) == BOM


@pytest.mark.parametrize("text", ["flask>=3\n", "flask==3.1.3\n    # via kataven-hub (pyproject.toml)\n"])
def test_a_lock_without_versions_or_hashes_is_an_error(text: str) -> None:
    with pytest.raises(SbomError):
        read_lock(text)
