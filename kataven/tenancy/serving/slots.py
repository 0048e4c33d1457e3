"""Caps the connections of all worker processes of a host.

A connection holds a slot: a file that its process has locked. The kernel releases the lock when the process ends for
any reason, so a killed worker leaves no slot in use. The cap also holds during a reload, when old and new workers
overlap.
Taking a slot takes about 30 µs, once per connection opened, not per request.
"""

import contextlib
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

_RANDOM = random.SystemRandom()  # leaves the state of a generator that tests have seeded unchanged


class HostSlots:
    """`limit` slots in `directory`, shared by all processes that use the same two values. Not thread-safe.

    Raises PermissionError if the directory belongs to another user, who could hold every slot permanently.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.geteuid() or directory.is_symlink():
            raise PermissionError(f"{directory} belongs to another user")
        directory.chmod(0o700)
        self._directory = directory
        self.limit = limit
        self._held: list[int] = []

    def take(self) -> bool:
        """Hold one more slot; False when every slot of the host is held."""
        start = _RANDOM.randrange(self.limit)  # spreads the workers over the files
        for offset in range(self.limit):
            descriptor = self._try(str((start + offset) % self.limit))
            if descriptor is not None:
                self._held.append(descriptor)
                return True
        return False

    @property
    def held(self) -> int:
        """The number of slots that this process holds."""
        return len(self._held)

    def release(self) -> None:
        """Release one slot."""
        os.close(self._held.pop())

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block runs, other processes can detect that this process waits for a slot."""
        descriptor = self._open("waiting")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits at most for another process's check in has_waiters()
            yield
        finally:
            os.close(descriptor)

    def has_waiters(self) -> bool:
        """Whether a process on this host waits for a slot. Two checks in the same microsecond may detect each other."""
        descriptor = self._try("waiting")
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def after_fork(self) -> "HostSlots":
        """The slots for a forked child, which holds none. Closes the child's copies of the parent's descriptors.

        Closing a copy does not unlock: the lock belongs to the open file, which the parent still holds.
        """
        while self._held:
            os.close(self._held.pop())
        return HostSlots(self._directory, self.limit)

    def _open(self, name: str) -> int:
        return os.open(self._directory / name, os.O_RDWR | os.O_CREAT, 0o600)

    def _try(self, name: str) -> int | None:
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
