"""Runs PostgreSQL's client programs `pg_dump`, `pg_restore` and `psql`, with the connection data in the environment.

Every user of a machine can read the command lines of its processes, so no part of a URL is an argument.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL

from kataven.tenancy.errors import ProgramFailed, ProgramMissing
from kataven.tenancy.url_options import KEEPALIVES, VARIABLES

_CONNECTION = {"PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE", "PGOPTIONS"}


def environment(url: URL) -> dict[str, str]:
    """This process's environment, changed so that libpq connects to `url`. Raises ValueError for unknown parameters."""
    given = {name: value for name, value in os.environ.items() if name not in _CONNECTION}
    parts = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    given |= {name: str(value) for name, value in parts.items() if value is not None}
    given["PGDATABASE"] = url.database or ""
    for name, value in url.query.items():
        if name in KEEPALIVES:
            continue
        if name not in VARIABLES:
            raise ValueError(
                f"the server's URL has the parameter {name!r}, for which libpq has no environment variable; remove it"
            )
        given[VARIABLES[name]] = value if isinstance(value, str) else ",".join(value)
    return given


class Programs:
    """The programs in `folder`; without a folder, those on the PATH."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def path(self, name: str) -> str:
        """The path of the program `name`. Raises ProgramMissing."""
        found = shutil.which(name, path=None if self._folder is None else str(self._folder))
        if found is None:
            where = "on the PATH" if self._folder is None else f"in {self._folder}"
            raise ProgramMissing(f"{name} was not found {where}; install PostgreSQL's client programs")
        return found

    def require(self, name: str, server_version: int) -> None:
        """Raise ProgramMissing unless the program is as new as a server of `server_version` (such as 180001)."""
        path, need = self.path(name), server_version // 10_000
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - named by the settings; no shell
        found = re.search(r"\) (\d+)", version.stdout)
        have = int(found[1]) if found else 0
        if have < need:
            raise ProgramMissing(
                f"{path} has version {have} and the server has version {need}; install version {need} or newer"
            )

    def run(self, name: str, url: URL, arguments: Sequence[str]) -> str:
        """Run `name` against `url` and return its output. Raises ProgramMissing, or ProgramFailed with the reason."""
        command = [self.path(name), *arguments]
        done = subprocess.run(  # noqa: S603 - named by the settings; no shell
            command, env=environment(url), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ProgramFailed(f"{name} failed: {_reason(done.stderr) or f'exit status {done.returncode}'}")
        return done.stdout


def _reason(stderr: str) -> str:
    """The line with the reason. The lines below an error (DETAIL, CONTEXT, LINE) quote data from the database."""
    lines = stderr.strip().splitlines()
    reason = next((line for line in lines if "error:" in line.lower()), lines[0] if lines else "")
    return reason.partition("error: ")[2] or reason
