"""The lock that reserves a data folder for one process."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import read_text


class FolderLock:
    """An flock on `folder/lock`, which contains the holder's pid. The kernel releases it when the holder exits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "lock"
        self._lock = FileLock(
            self._file, mode=0o600, blocking=False, thread_local=False, preserve_lock_file=True, on_acquired=_write_pid
        )

    def acquire(self) -> None:
        """Take the lock without waiting. Raises DevError, with the holder's process id, if it is taken."""
        try:
            self._lock.acquire()
        except Timeout:
            holder = (read_text(self._file) or "").strip() or "unknown"
            raise DevError(f"another run uses {self._folder} (process {holder}); stop it first") from None
        except OSError as error:
            raise DevError(f"cannot use {self._folder}: {error.strerror}") from error

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        self._lock.release()


def _write_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
