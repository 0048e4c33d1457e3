"""Logs the thread stacks of a crashed worker. faulthandler writes plain text only, so it writes to a file first.

gunicorn kills a hanging worker with SIGABRT, so its stacks are logged too.
"""

from __future__ import annotations

import faulthandler
import logging
import os
from pathlib import Path

log = logging.getLogger("kataven.server")

MAX_BYTES = 64 * 1024


def watch(folder: str) -> None:
    """Call it in the worker: on a fatal signal, the stacks of all threads are written to a file of this process."""
    descriptor = os.open(_file(folder, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    faulthandler.enable(descriptor)


def report(folder: str, pid: int) -> None:
    """Call it in the master: logs the stacks of worker `pid` if it has crashed. Raises OSError."""
    file = _file(folder, pid)
    if not file.exists():
        return
    with file.open("rb") as dump:
        stacks = dump.read(MAX_BYTES).decode(errors="replace")
    file.unlink()
    if stacks:
        log.critical("a worker crashed", extra={"worker": pid, "stacks": stacks})


def _file(folder: str, pid: int) -> Path:
    return Path(folder) / f"crash-{pid}"
