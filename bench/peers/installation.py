"""The other systems' packages: a private environment for Python and a `node_modules`, both from lock files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).parent
APPS = FOLDER / "apps"
VENV = FOLDER / "venv"
NODE_MODULES = FOLDER / "node_modules"
REQUIREMENTS = FOLDER / "requirements.txt"
COMMAND = "python -m bench.peers --install"
OLDEST_NODE = 20

PYTHON, NODE = "Python", "Node.js"
NAMED = {
    PYTHON: [
        *("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "sqlalchemy", "asyncpg", "slowapi"),
        *("django", "djangorestframework", "djangorestframework-api-key", "psycopg", "gunicorn"),
    ],
    NODE: ["better-auth", "@better-auth/api-key", "@better-auth/redis-storage", "pg", "kysely", "ioredis"],
}
"""The packages whose versions the output contains."""


class NotInstalled(Exception):
    """A tool or a package that a system needs is missing. The message names it and the command that installs it."""


def install() -> None:
    """Install all packages. Raises NotInstalled, or CalledProcessError if an installer fails."""
    npm = _tool("npm")
    _node()
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*pip, "--only-binary", ":all:", "-r", str(REQUIREMENTS)], check=True)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run([npm, "ci", *quiet], cwd=FOLDER, check=True)


def check(languages: set[str]) -> None:
    """Raises NotInstalled if a package for one of `languages` is missing."""
    if PYTHON in languages and not versions(PYTHON):
        raise NotInstalled(f"FastAPI and Django are not installed: run {COMMAND}")
    if NODE in languages:
        _node()
        if not versions(NODE):
            raise NotInstalled(f"Better Auth is not installed: run {COMMAND}")


def python() -> str:
    """The interpreter of the private environment."""
    return str(VENV / "bin" / "python")


def node() -> str:
    return _tool("node")


def versions(language: str) -> dict[str, str]:
    """The versions of the named packages. Empty if one is missing."""
    if language == PYTHON:
        folders = [str(folder) for folder in VENV.glob("lib/python*/site-packages")]
        found = {each.name.lower(): each.version for each in distributions(path=folders)} if folders else {}
    else:
        files = {name: NODE_MODULES / name / "package.json" for name in NAMED[NODE]}
        found = {name: json.loads(file.read_text())["version"] for name, file in files.items() if file.exists()}
    return {name: found[name] for name in NAMED[language]} if found.keys() >= set(NAMED[language]) else {}


def _node() -> None:
    printed = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(printed.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise NotInstalled(f"Node.js is {printed}: install version {OLDEST_NODE} or later, or leave Better Auth out")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"{name} is not on the PATH: install Node.js with npm, or leave Better Auth out with --only")
    return found
