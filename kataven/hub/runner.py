"""Runs migrations in a separate process, which outlives the worker that started it.

gunicorn stops a worker that is busy for 30 s, and all workers when it restarts. A migration run is therefore started as
`flask migrations carry-out`, with the environment of this process and without secrets on the command line.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from kataven.web.metrics_folder import FOLDER_VARIABLE

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """`folder` contains the package `kataven`. The id of a run is appended to `command`."""

    folder: Path
    command: Sequence[str] = (
        sys.executable,
        "-m",
        "flask",
        "--app",
        "kataven.serve.wsgi:app",
        "migrations",
        "carry-out",
    )

    def start(self, run_id: UUID, on_exit: Callable[[], None]) -> None:
        """Start a run and return immediately. `on_exit` is called on another thread when its process exits.

        Raises OSError if the process can't be started.
        """
        # The metrics folder belongs to gunicorn's workers: the process must not add its own metrics to it.
        environ = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
        process = subprocess.Popen(  # noqa: S603 - a fixed command, and an id that the Hub generated
            [*self.command, str(run_id)],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its log goes to stderr, like the log of this process
            start_new_session=True,  # signals to the process group of this worker must not reach it
        )
        threading.Thread(target=_wait, args=(process, on_exit), name="migrations", daemon=True).start()


def _wait(process: subprocess.Popen[bytes], on_exit: Callable[[], None]) -> None:
    status = process.wait()
    if status:
        _log.warning("the process of a migration run exited with status %d", status)
    on_exit()
