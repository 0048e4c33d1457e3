"""The servers of a run, in the order of their start: watched while it lasts, stopped in reverse."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import NoReturn, Protocol, Self

WATCH_SECONDS = 0.2


class DevServer(Protocol):
    """An embedded server or a child process."""

    def start(self) -> None: ...
    def check(self) -> None: ...
    def stop(self) -> None: ...


class DevServers:
    """A context that stops what was started in it, the last one first, whatever goes wrong with one of them."""

    def __init__(self) -> None:
        self._servers: list[DevServer] = []
        self._stack = ExitStack()

    def start(self, server: DevServer) -> None:
        """Start `server`; it will be stopped even if its start was cut short. Raises what its `start` raises."""
        self._stack.callback(server.stop)
        server.start()
        self._servers.append(server)

    def at_the_end(self, undo: Callable[[], object]) -> None:
        """Call `undo` once everything that is started from now on has stopped."""
        self._stack.callback(undo)

    @property
    def started(self) -> bool:
        """Whether there is anything to stop."""
        return bool(self._servers)

    def watch(self) -> NoReturn:
        """Wait for ever. Raises DevError, with the end of its log, as soon as one of them ends by itself."""
        while True:
            for server in self._servers:
                server.check()
            time.sleep(WATCH_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
