"""Processes that an earlier run left behind: found by their command line, ended in order.

A process id in a file proves nothing (ids are reused, and a killed process may stay a zombie for as long as the
container lives), so a server is recognised by a mark that its run put on its command line.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kataven.dev.errors import DevError

KILL_SECONDS = 5.0
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A living process: zombies have no command line and are not listed."""

    pid: int
    parent: int
    command: str


@dataclass(frozen=True)
class Mark:
    """What the processes of one data folder's server have in common: the program, and a word on the command line."""

    program: str
    word: str

    def processes(self) -> list[Process]:
        """Those that live now, workers included."""
        program = re.compile(rf"(^|/|-m ){re.escape(self.program)}(:| |$)")
        word = re.compile(rf"(?<![\w.-]){re.escape(self.word)}(?![\w.-])")
        return [
            process
            for process in living_processes()
            if process.pid != os.getpid() and program.search(process.command) and word.search(process.command)
        ]

    def end(self, gently: signal.Signals, seconds: float) -> None:
        """End them all: `gently` to those on top, who tell their workers; whoever is left after `seconds` is killed.

        Raises DevError if one of them doesn't even die of that.
        """
        found = self.processes()
        pids = {process.pid for process in found}
        _send(gently, [process.pid for process in found if process.parent not in pids])
        if not self._gone_within(seconds):
            _send(signal.SIGKILL, [process.pid for process in self.processes()])
            if not self._gone_within(KILL_SECONDS):
                raise DevError(
                    f"{self.program} of an earlier run cannot be stopped (process {self.processes()[0].pid})"
                )

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or it is somebody else's
            os.kill(pid, number)


def living_processes() -> Iterator[Process]:
    """Every process that this user can see, its arguments joined by spaces."""
    return _from_proc() if (_PROC / "self/stat").exists() else _from_ps()


def _from_proc() -> Iterator[Process]:
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it ended while we looked
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if command:
                # "pid (name) state ppid …", and the name may hold anything, brackets and spaces too: proc(5).
                parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                yield Process(int(folder.name), int(parent), command)


def _from_ps() -> Iterator[Process]:
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,ppid=,command="],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    for line in listing.stdout.splitlines():
        pid, parent, *command = line.split(maxsplit=2)
        if command and not command[0].startswith("("):  # "(name)" is how a zombie is shown
            yield Process(int(pid), int(parent), command[0])
