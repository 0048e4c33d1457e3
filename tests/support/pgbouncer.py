"""A PgBouncer of Debian's package in front of an embedded PostgreSQL, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg2
from sqlalchemy import make_url

from kataven.dev.embedded.child import launcher_command
from kataven.dev.embedded.postgres import EmbeddedPostgres
from tests.support.installed import require_program
from tests.support.servers import ask
from tests.support.waiting import wait_until

PORT = 5432
START_SECONDS = 30.0
POOL_MODES = ("transaction", "session")


class PgBouncer:
    """Runs as the user of the server, which must be a scratch server: it then trusts its user's connections."""

    def __init__(self, server: EmbeddedPostgres, pool_mode: str, **settings: object) -> None:
        self._program = require_program("pgbouncer", "PGBOUNCER_TESTS", folder="/usr/sbin")
        self._uid = _uid_of(server)
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self._mode = pool_mode
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.lead_to(server)

    def lead_to(self, server: EmbeddedPostgres) -> None:
        """Configure the server that the pooler leads to; `reload` makes a running pooler use it."""
        _admit(server)
        folder = make_url(server.url("x")).query["host"]
        settings = {
            "unix_socket_dir": self._folder,
            "unix_socket_mode": "0777",
            "listen_port": PORT,
            "auth_type": "trust",
            "auth_file": self._folder / "users.txt",
            "pool_mode": self._mode,
            "max_client_conn": 200,
            "default_pool_size": 10,
            # Fail soon, as clients expect, while the server is away.
            "server_login_retry": 1,
            "query_wait_timeout": 5,
            **self._settings,
        }
        lines = [f"[databases]\n* = host={folder} port=5432", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (self._folder / "users.txt").write_text('"kataven" ""\n')
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        for path in (self._folder, *self._folder.iterdir()):
            if path.is_dir() or path.is_file():
                os.chown(path, self._uid, -1)
        self._folder.chmod(0o711)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://kataven@/{quote(database, safe='')}?host={quote(str(self._folder), safe='')}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self) -> None:
        command = [self._program, self._folder / "pgbouncer.ini"]
        uid = self._uid if os.geteuid() == 0 else None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                launcher_command(command, signal.SIGKILL, uid),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        wait_until(self._accepts, START_SECONDS, lambda: self.log[-1500:])

    def kill(self) -> None:
        """As when the process crashes: connections of its clients are closed."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None
        (self._folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)

    def reload(self) -> None:
        """Use the current configuration for new connections to the server; clients remain connected."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"pgbouncer ended: {self.log[-1500:]}")
        with suppress(psycopg2.Error):
            psycopg2.connect(self.url("postgres").replace("+psycopg2", "")).close()
            return True
        return False


def _admit(server: EmbeddedPostgres) -> None:
    """Accept the pooler's user, which has no name that peer authentication could map. The socket remains private."""
    (file,) = ask(server, "SHOW hba_file")[0]
    Path(str(file)).write_text("local all kataven trust\n")
    ask(server, "SELECT pg_reload_conf()")


def _uid_of(server: EmbeddedPostgres) -> int:
    """The user that runs the server."""
    folder = str(make_url(server.url("x")).query["host"])
    return Path(folder, ".s.PGSQL.5432").stat().st_uid
