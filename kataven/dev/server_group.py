"""The servers of a run: watched while it lasts, and stopped in reverse order."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import NoReturn, Protocol

WATCH_SECONDS = 0.2


class DevServer(Protocol):
    """An embedded server or a child process."""

    def start(self) -> None: ...
    def check(self) -> None: ...
    def stop(self) -> None: ...


class ServerGroup(ExitStack):
    """A context that stops its servers when it exits, the last one first, even if stopping one of them fails."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: list[DevServer] = []

    def start(self, server: DevServer) -> None:
        """Start `server`. It is stopped even if its start was interrupted. Raises what its `start` raises."""
        self.callback(server.stop)
        server.start()
        self._servers.append(server)

    @property
    def started(self) -> bool:
        """Whether a server has been started."""
        return bool(self._servers)

    def watch(self) -> NoReturn:
        """Block. Raises DevError, with the end of its log, as soon as a server exits."""
        while True:
            for server in self._servers:
                server.check()
            time.sleep(WATCH_SECONDS)
