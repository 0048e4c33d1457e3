"""Makes a process that serves requests a member of the fleet: it starts the services once, after the fork.

A member holds a lease, so revocations wait for it, and their receipts count it. Before `join`, the process accepts
nothing from its caches, so it need not be a member to be correct.
"""

from __future__ import annotations

import atexit
import logging
import os
from threading import Lock

from kataven.web.services import Services

_log = logging.getLogger(__name__)


class StartedBeforeFork(RuntimeError):
    """Raised in a child of the process that joined: its connections and threads belong to its parent."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"Kataven was started in process {pid}, which then forked. Start it after the fork: don't handle requests "
            "before gunicorn forks, and call `start` in `post_worker_init`, not when the app is created."
        )


class Membership:
    """The membership of one process. All methods can be called from any thread, and more than once."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._pid: int | None = None
        self._left = False
        self._lock = Lock()

    @property
    def joined(self) -> bool:
        return self._pid == os.getpid()

    def join(self) -> bool:
        """Start the services, unless this process has done so. Returns whether it did so now.

        Raises StartedBeforeFork, or RuntimeError after `leave`. `leave` runs automatically when the interpreter exits.
        """
        if self._pid == os.getpid():
            return False
        with self._lock:
            if self._pid == os.getpid():
                return False
            if self._pid is not None:
                raise StartedBeforeFork(self._pid)
            if self._left:  # its registry of engines is closed
                raise RuntimeError("Kataven was stopped in this process; create the application again to restart it")
            self.services.start()
            atexit.register(self.leave)
            self._pid = os.getpid()
        _log.info("kataven: process %d joined the fleet", self._pid)
        return True

    def leave(self) -> None:
        """Stop the services: pending uses of keys are written, and no revocation waits for this process.

        Does nothing in a process that has not joined, such as a child of one that has.
        """
        with self._lock:
            if self._pid != os.getpid():
                return
            self._pid, self._left = None, True
            atexit.unregister(self.leave)
        self.services.stop()
