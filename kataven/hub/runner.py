"""Begins what takes longer than a request: in a process of its own, which outlives the worker that began it.

gunicorn ends a worker that is busy for 30 s, and every worker when it restarts. So a run over the accounts' schemas is
`flask migrations carry-out`, with this process's environment and with nothing secret on its command line.
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
    """`folder` is where `wsgi.py` is; `command` is what a run's id is added to."""

    folder: Path
    command: Sequence[str] = (sys.executable, "-m", "flask", "--app", "wsgi:app", "migrations", "carry-out")

    def begin(self, run_id: UUID, ended: Callable[[], None]) -> None:
        """Begin to carry out a run and return at once. `ended` is called, on another thread, when its process is gone.

        Raises OSError if there can be no such process.
        """
        # Without our place among gunicorn's workers, whose metrics are counted until they are buried.
        environ = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
        process = subprocess.Popen(  # noqa: S603 - a fixed command, and an id of ours
            [*self.command, str(run_id)],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what it has to complain of goes where our own log goes
            start_new_session=True,  # so that a signal to our group is none to it
        )
        threading.Thread(target=_wait, args=(process, ended), name="migrations", daemon=True).start()


def _wait(process: subprocess.Popen[bytes], ended: Callable[[], None]) -> None:
    status = process.wait()
    if status:
        _log.warning("the process that carried out a run over the accounts ended with %d", status)
    ended()
