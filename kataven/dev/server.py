"""What the embedded servers have in common: one data folder, one lock, one socket, one process."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from kataven.dev.errors import DevError
from kataven.dev.files import private_folder
from kataven.dev.leftovers import Mark
from kataven.dev.lock import FolderLock
from kataven.dev.processes import Child
from kataven.dev.sockets import SocketFolder

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class EmbeddedServer(ABC):
    """A real server that keeps its data in `data_dir` and ends with this process, also when this process is killed.

    Output goes to `log`, by default `server.log` in `data_dir`. One process at a time uses a `data_dir`.
    """

    program: ClassVar[str]
    """The program's name as the list of processes shows it."""
    stop_signal: ClassVar[signal.Signals]
    """What makes it end in good order."""

    def __init__(self, data_dir: Path, log: Path | None) -> None:
        self._data_dir = data_dir.absolute()
        self._log = log or self._data_dir / "server.log"
        self._lock = FolderLock(self._data_dir)
        self._socket: SocketFolder | None = None
        self._child: Child | None = None

    def start(self) -> None:
        """Return when the server serves; what a killed run left behind is cleaned up first.

        To be called from the main thread (see `Child`). Raises DevError: another process holds `data_dir`, there are no
        binaries for this platform, a folder can't be written, or the server doesn't start.
        """
        self._make_folder()
        self._lock.acquire()
        try:
            socket = SocketFolder(self._data_dir)
            mark = Mark(self.program, socket.name)
            mark.end(self.stop_signal, STOP_SECONDS)
            self._child = self._prepare(socket, mark)
            self._socket = socket
            self._child.start()
            self._child.wait_until(self._ready, READY_SECONDS)
        except OSError as error:
            self.stop()
            raise DevError(f"{self.program} cannot be started: {error}") from error
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise DevError, with the end of its log, if the server has ended by itself."""
        if self._child is not None:
            self._child.check()

    def stop(self) -> None:
        """End the server, its data safe on disk; by force after 20 s. May be repeated."""
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _socket_folder(self) -> Path:
        if self._socket is None:
            raise DevError(f"{self.program} is not running")
        return self._socket.path

    def _make_folder(self) -> None:
        private_folder(self._data_dir)

    @abstractmethod
    def _prepare(self, socket: SocketFolder, mark: Mark) -> Child:
        """Everything up to the start: data and configuration on disk, `socket` made, and the process to start."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether the server serves by now."""
