"""The common part of the embedded servers: one data folder, one lock, one socket, one process."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from kataven.dev.embedded.child import Child
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import private_folder
from kataven.dev.embedded.lock import FolderLock
from kataven.dev.embedded.processes import Mark
from kataven.dev.embedded.sockets import SocketFolder

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class EmbeddedServer(ABC):
    """A real server that stores its data in `data_dir` and stops with this process, even if this process is killed.

    Output goes to `log`, by default `server.log` in `data_dir`. Only one process at a time can use a `data_dir`.
    """

    program: ClassVar[str]
    """The program's name in the list of processes."""
    stop_signal: ClassVar[signal.Signals]
    """Shuts the server down with its data on disk."""

    def __init__(self, data_dir: Path, log: Path | None) -> None:
        self._data_dir = data_dir.absolute()
        self._log = log or self._data_dir / "server.log"
        self._lock = FolderLock(self._data_dir)
        self._socket: SocketFolder | None = None
        self._child: Child | None = None

    def start(self) -> None:
        """Remove what a killed run left behind, start the server, and return when it serves.

        Call this from the main thread (see `Child`). Raises DevError if another process uses `data_dir`, no binaries
        exist for this platform, a folder cannot be written, or the server does not start.
        """
        self._create_folder()
        self._lock.acquire()
        try:
            socket = SocketFolder(self._data_dir)
            mark = Mark(self.program, socket.name)
            mark.stop_all(self.stop_signal, STOP_SECONDS)
            self._child = self._prepare(socket, mark)
            self._socket = socket
            self._child.start()
            self._child.wait_until(self._ready, READY_SECONDS)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise DevError(f"{self.program} cannot be started: {error}") from error
            raise

    def check(self) -> None:
        """Raise DevError, with the end of the log, if the server has exited."""
        if self._child is not None:
            self._child.check()

    def stop(self) -> None:
        """Stop the server with its data on disk, by force after 20 s. May be called repeatedly."""
        if self._child is not None:
            self._child.stop(STOP_SECONDS)
            self._child = None
        if self._socket is not None:
            self._socket.remove()
            self._socket = None
        self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _socket_folder(self) -> Path:
        if self._socket is None:
            raise DevError(f"{self.program} is not running")
        return self._socket.path

    def _create_folder(self) -> None:
        private_folder(self._data_dir)

    @abstractmethod
    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        """Write data and configuration, create `socket`, and return the process to start."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether the server accepts connections."""
