"""Processes that an earlier run left behind: recognized by their command line, and stopped.

A process id in a file is not sufficient: ids are reused, and a killed process can remain a zombie for as long as its
container runs. A server is therefore recognized by a mark that its run put on its command line.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from kataven.dev.embedded.errors import DevError

KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """A running process. `command` contains its arguments, separated by spaces."""

    pid: int
    parent: int
    command: str


def living_processes() -> Iterator[Process]:
    """All processes that this user can see. Zombies have no command line and are not included."""
    for process in psutil.process_iter(["ppid", "cmdline"]):
        if process.info["cmdline"]:
            yield Process(process.pid, process.info["ppid"], " ".join(process.info["cmdline"]).strip())


@dataclass(frozen=True)
class Mark:
    """Identifies one data folder's server: its program, and a word on its command line."""

    program: str
    word: str

    def processes(self) -> list[Process]:
        """The server's running processes, workers included."""
        program = re.compile(rf"(^|/|-m ){re.escape(self.program)}(:| |$)")
        word = re.compile(rf"(?<![\w.-]){re.escape(self.word)}(?![\w.-])")
        return [
            process
            for process in living_processes()
            if process.pid != os.getpid() and program.search(process.command) and word.search(process.command)
        ]

    def stop_all(self, stop_signal: signal.Signals, seconds: float) -> None:
        """Send `stop_signal` to the topmost processes, which stop their workers. After `seconds`, kill the rest.

        Raises DevError if a process survives SIGKILL.
        """
        found = self.processes()
        pids = {process.pid for process in found}
        _send(stop_signal, (process for process in found if process.parent not in pids))
        if not self._gone_within(seconds):
            _send(signal.SIGKILL, self.processes())
            if not self._gone_within(KILL_SECONDS):
                pid = self.processes()[0].pid
                raise DevError(f"{self.program} of an earlier run does not stop (process {pid}); end it, and try again")

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _send(number: signal.Signals, processes: Iterable[Process]) -> None:
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):  # it ended in the meantime, or belongs to another user
            os.kill(process.pid, number)
