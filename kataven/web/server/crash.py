"""The stacks of a worker that crashed, as a line in the log: faulthandler writes plain text alone, so it gets a file.

gunicorn ends a worker that hangs by SIGABRT, so its stacks are told too.
"""

from __future__ import annotations

import faulthandler
import logging
import os
from pathlib import Path

log = logging.getLogger("kataven.server")

MOST_BYTES = 64 * 1024


def watch(folder: str) -> None:
    """In the worker: have a fatal signal write every thread's stack to a file of this process."""
    descriptor = os.open(_file(folder, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    faulthandler.enable(descriptor)


def report(folder: str, pid: int) -> None:
    """In the master: log what worker `pid` has left, if it has crashed. Raises OSError."""
    file = _file(folder, pid)
    if not file.exists():
        return
    with file.open("rb") as left:
        stacks = left.read(MOST_BYTES).decode(errors="replace")
    file.unlink()
    if stacks:
        log.critical("a worker crashed", extra={"worker": pid, "stacks": stacks})


def _file(folder: str, pid: int) -> Path:
    return Path(folder) / f"crash-{pid}"
