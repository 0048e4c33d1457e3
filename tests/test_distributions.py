"""The distributions `kataven` and `kataven-hub`: their metadata, their files, and what the documents tell to install.

`make test-dist` builds and installs them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kataven
from kataven.mcp_server import command
from kataven.tenancy.schema import scripts_folder

ROOT = Path(__file__).resolve().parents[1]
OURS = re.compile(r"kataven(?:[-_.]?(?:hub|mcp|sdk))?(?:\[.*\])?(?:[=<>~!].*)?", re.IGNORECASE)
INSTALL = re.compile(r"\b(?:pip3?|pipx|uv|uvx|poetry|pdm)\b[^\n]*?\b(?:install|add|run|uvx)\b([^\n`]*)")


def project(folder: str) -> Any:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    """The build backend of both distributions."""
    spec = importlib.util.spec_from_file_location("staged_build", ROOT / "sdk" / "staged_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_have_the_version_of_the_package_and_the_server_requires_it() -> None:
    assert [project(folder)["version"] for folder in ("sdk", ".")] == [kataven.__version__] * 2
    assert f"kataven=={kataven.__version__}" in project(".")["dependencies"]


def test_sdk_requires_the_http_client_only() -> None:
    names = [re.split(r"[^\w-]", needed, maxsplit=1)[0] for needed in project("sdk")["dependencies"]]
    assert names == ["anyio", "httpx2"]


def test_every_file_is_in_exactly_one_distribution(backend: ModuleType, tmp_path: Path) -> None:
    found = []
    for name, source in (("sdk", ROOT / "sdk"), ("hub", ROOT)):
        folder = tmp_path / name
        folder.mkdir()
        backend.stage(source, folder)
        found.append(
            {path.relative_to(folder).as_posix() for path in (folder / "kataven").rglob("*") if path.is_file()}
        )
    assert not found[0] & found[1]
    assert found[0] | found[1] == set(files("kataven", "kataven")) | set(files("alembic", "kataven/alembic_scripts"))
    assert {name.split("/")[1] for name in found[0]} == set(backend.SDK_PARTS)


def files(folder: str, installed: str) -> Iterator[str]:
    """The files of a folder of the checkout, with their paths in a wheel."""
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"


def test_sdk_imports_nothing_of_the_server(backend: ModuleType, tmp_path: Path) -> None:
    backend.stage(ROOT / "sdk", tmp_path)
    for source in (tmp_path / "kataven").rglob("*.py"):
        for name in imported_modules(source):
            path = tmp_path.joinpath(*name.split("."))
            assert path.is_dir() or path.with_suffix(".py").exists(), f"{source.relative_to(tmp_path)} imports {name}"


def imported_modules(source: Path) -> Iterator[str]:
    """The modules of the project that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("kataven"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kataven"):
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name for name in names if importlib.util.find_spec(name)] if is_package(node.module) else []
            yield node.module


def is_package(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def test_staged_project_is_an_ordinary_setuptools_project(backend: ModuleType, tmp_path: Path) -> None:
    backend.stage(ROOT, tmp_path)
    staged = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert staged["build-system"] == {"requires": ["setuptools>=80"], "build-backend": "setuptools.build_meta"}
    assert set(staged["tool"]) == {"setuptools"}
    assert staged["project"] == project(".")


def test_package_data_covers_every_kind_of_file() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    kinds = {f"*{Path(name).suffix}" for name in (*files("kataven", ""), *files("alembic", ""))}
    assert kinds - {"*.py", "*.typed"} == set(given)


def test_schema_finds_the_revisions_in_a_checkout_and_in_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scripts_folder() == ROOT / "alembic"
    module = tmp_path / "kataven" / "tenancy" / "schema.py"
    monkeypatch.setattr("kataven.tenancy.schema.__file__", str(module))
    (tmp_path / "alembic").mkdir()  # the library
    (tmp_path / "kataven" / "alembic_scripts").mkdir(parents=True)
    assert scripts_folder() == tmp_path / "kataven" / "alembic_scripts"


def test_every_script_is_a_function() -> None:
    for folder in ("sdk", "."):
        for target in project(folder).get("scripts", {}).values():
            module, _, name = target.partition(":")
            assert callable(getattr(importlib.import_module(module), name))


def test_message_about_the_missing_extra_installs_its_range() -> None:
    needed = " ".join(f"'{one}'" for one in project("sdk")["optional-dependencies"]["mcp"])
    assert command.INSTALL.endswith(f"pip install {needed}")


@pytest.mark.parametrize(
    ("line", "rejected"),
    [
        ("pip install kataven", True),
        ("pip install 'kataven-hub[mcp]'", True),
        (".venv/bin/python -m pip install -U --pre kataven==0.1.0", True),
        ("uvx --from x install kataven-mcp", True),
        ("pip install './sdk[mcp]'", False),
        ("pip install dist/kataven-*.whl", False),
        ("pip install 'mcp>=2.3,<3'", False),
    ],
)
def test_check_recognizes_our_names(line: str, *, rejected: bool) -> None:
    assert bool(our_names(line)) == rejected


def test_no_document_or_message_installs_an_unpublished_name() -> None:
    sources = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "sdk" / "README.md"]
    for folder, kinds in (("docs", {".md"}), ("kataven", {".py", ".html"}), ("deploy", None)):
        sources += [p for p in (ROOT / folder).rglob("*") if p.is_file() and (kinds is None or p.suffix in kinds)]
    for source in sources:
        assert not our_names(source.read_text()), source


def our_names(text: str) -> list[str]:
    """The arguments of install commands that name one of our distributions, not a file or a folder."""
    arguments = [word.strip("'\"),;:") for found in INSTALL.findall(text) for word in found.split()]
    return [word for word in arguments if OURS.fullmatch(word)]
