"""One cap on connections for all worker processes of a host.

A connection holds a slot: a file that its process has locked. The kernel gives the lock back when the process ends,
however it ends, so a killed worker never leaves a slot behind, and during a reload, when old and new workers overlap,
the cap still holds. Taking a slot costs some 30 µs, once per connection opened, not per request.
"""

import contextlib
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

_CHANCE = random.SystemRandom()  # what tests seed is not ours to use up


class HostSlots:
    """`limit` slots in `directory`, shared by every process that names the same two. Not thread-safe by itself.

    Raises PermissionError for a directory that somebody else has, who could hold every slot for ever.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.geteuid() or directory.is_symlink():
            raise PermissionError(f"{directory} belongs to somebody else")
        directory.chmod(0o700)
        self._directory = directory
        self.limit = limit
        self._held: list[int] = []

    def take(self) -> bool:
        """Hold one more slot; False when every slot of the host is held."""
        start = _CHANCE.randrange(self.limit)  # spreads workers over the files
        for offset in range(self.limit):
            descriptor = self._try(str((start + offset) % self.limit))
            if descriptor is not None:
                self._held.append(descriptor)
                return True
        return False

    @property
    def held(self) -> int:
        """How many of them this process has."""
        return len(self._held)

    def give_back(self) -> None:
        """Let go of one slot."""
        os.close(self._held.pop())

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block runs, other processes see that somebody here is short of a slot."""
        descriptor = self._open("waiting")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for no longer than another's look in is_short()
            yield
        finally:
            os.close(descriptor)

    def is_short(self) -> bool:
        """Whether somebody on this host waits for a slot. Two that look in the same microsecond may see each other."""
        descriptor = self._try("waiting")
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def renewed(self) -> "HostSlots":
        """The same slots for a forked child, which holds none: its copies of the parent's locks are closed.

        Closing a copy does not unlock: the lock belongs to the open file, which the parent still has.
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
