"""`make dev`: restarts a server when the code changes.

gunicorn's own `reload` does not fit: the application is built before the fork, so a new worker would have the old code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from kataven.dev.embedded.errors import DevError
from kataven.dev.terminal import print_error, print_line

SUFFIXES = frozenset({".py", ".html", ".css", ".js", ".svg", ".lua"})

Snapshot = dict[str, int]
"""The modification time of each file, in nanoseconds."""


class CodeWatch:
    """Finds changes of the files in `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._seen = self._snapshot()
        self._pending: Snapshot | None = None

    def changed(self) -> str | None:
        """The path of a changed, new or removed file, once the files have not changed between two calls."""
        now = self._snapshot()
        if now == self._seen:
            self._pending = None
            return None
        if now != self._pending:  # an editor or git may still be writing
            self._pending = now
            return None
        path = min(path for path in now.keys() | self._seen.keys() if now.get(path) != self._seen.get(path))
        self._seen, self._pending = now, None
        return path

    def _snapshot(self) -> Snapshot:
        found: Snapshot = {}
        folders = [str(folder) for folder in self._folders]
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:  # removed in the meantime
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif os.path.splitext(entry.name)[1] in SUFFIXES:
                    try:
                        found[entry.path] = entry.stat().st_mtime_ns
                    except OSError:
                        continue
        return found


class Restartable(Protocol):
    """A child process that can be started again after `stop`."""

    def start(self) -> None: ...
    def check(self) -> None: ...
    def stop(self) -> None: ...


class ReloadingServer:
    """A server that is restarted after each change of the code. If it does not start, the next change is awaited."""

    def __init__(self, name: str, server: Restartable, wait_until_ready: Callable[[], None], watch: CodeWatch) -> None:
        self._name = name
        self._server = server
        self._wait_until_ready = wait_until_ready
        self._watch = watch
        self._running = False

    def start(self) -> None:
        """Start the server, and return when it serves. Raises DevError if it does not start."""
        self._server.start()
        self._wait_until_ready()
        self._running = True

    def check(self) -> None:
        """Restart the server if the code has changed. Raises DevError if it has exited without a change."""
        changed = self._watch.changed()
        if changed is not None:
            print_line(f"{changed} has changed, restarting {self._name}")
            self._restart()
        elif self._running:
            self._server.check()

    def stop(self) -> None:
        self._server.stop()

    def _restart(self) -> None:
        self._running = False
        self._server.stop()
        try:
            self.start()
        except DevError as error:
            self._server.stop()
            print_error(f"{error}\nThe next change starts {self._name} again.")
        else:
            print_line(f"{self._name} has restarted")
