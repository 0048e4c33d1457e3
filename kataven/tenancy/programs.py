"""PostgreSQL's own programs: `pg_dump`, `pg_restore` and `psql`, told where to connect, but never on a command line.

Every user of a machine can read every command line on it. What a URL says travels in the environment that libpq reads.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL

from kataven.tenancy.errors import ProgramFailed, ProgramMissing

# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "port": "PGPORT",
    "require_auth": "PGREQUIREAUTH",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
_NAMING = {"PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE", "PGOPTIONS"}


def environment(url: URL) -> dict[str, str]:
    """Our own environment, in which libpq connects to `url` and nowhere else. Raises ValueError for odd parameters."""
    given = {name: value for name, value in os.environ.items() if name not in _NAMING}
    parts = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    given |= {name: str(value) for name, value in parts.items() if value is not None}
    given["PGDATABASE"] = url.database or ""
    for name, value in url.query.items():
        if name not in _VARIABLES:
            raise ValueError(f"the server's URL has a parameter, {name}, that no variable of libpq's stands for")
        given[_VARIABLES[name]] = value if isinstance(value, str) else ",".join(value)
    return given


class Programs:
    """Those in `folder`; without one, those on the PATH."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def path(self, name: str) -> str:
        """Where `name` is. Raises ProgramMissing."""
        found = shutil.which(name, path=None if self._folder is None else str(self._folder))
        if found is None:
            where = "on the PATH" if self._folder is None else f"in {self._folder}"
            raise ProgramMissing(f"there is no {name} {where}; install PostgreSQL's client programs")
        return found

    def require(self, name: str, server_version: int) -> None:
        """Raise ProgramMissing unless there is one that is as new as a server of `server_version` (180001)."""
        path, need = self.path(name), server_version // 10_000
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - named by the settings; no shell
        found = re.search(r"\) (\d+)", said.stdout)
        have = int(found[1]) if found else 0
        if have < need:
            raise ProgramMissing(f"{path} is of PostgreSQL {have}, and the server is of {need}: a newer one is needed")

    def run(self, name: str, url: URL, arguments: Sequence[str]) -> str:
        """Run `name` against `url`; what it printed. Raises ProgramMissing, or ProgramFailed with its last line."""
        command = [self.path(name), *arguments]
        done = subprocess.run(  # noqa: S603 - named by the settings; no shell
            command, env=environment(url), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ProgramFailed(f"{name} failed: {_reason(done.stderr) or f'exit status {done.returncode}'}")
        return done.stdout


def _reason(stderr: str) -> str:
    """The line that says why. The lines below an error (DETAIL, CONTEXT, LINE) quote what is in the database."""
    lines = stderr.strip().splitlines()
    said = next((line for line in lines if "error:" in line.lower()), lines[0] if lines else "")
    return said.partition("error: ")[2] or said
