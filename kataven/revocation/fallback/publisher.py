"""Carries out one revocation through a fallback notice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kataven.revocation.fallback.channel import FallbackChannel, FallbackUnreachable, PollerId, PostedNotice
from kataven.revocation.lease import Clock, expiry_wait_seconds

HasExited = Callable[[PollerId], bool]


class FallbackPublisher:
    """Posts a notice and checks which readers have read it. No method waits. Stops trying to post at `give_up_at`."""

    def __init__(
        self,
        fallback: FallbackChannel,
        has_exited: HasExited,
        clock: Clock,
        reader_lease_seconds: float,
        give_up_at: float,
    ) -> None:
        self._fallback = fallback
        self._has_exited = has_exited
        self._clock = clock
        self._reader_lease_seconds = reader_lease_seconds
        self._give_up_at = give_up_at
        self._posted: PostedNotice | None = None
        self._leases_expire_at = 0.0
        self._behind: frozenset[PollerId] = frozenset()

    def advance(self) -> bool:
        """Post the notice, if that is not done, and check the readers. Call this repeatedly until it returns True.

        Returns whether every reader has cleared its caches or no longer holds a reader lease. Raises
        FallbackUnreachable if the notice could not be posted by `give_up_at`.
        """
        try:
            if self._posted is None:
                self._post()
            self._behind = frozenset(filter(self._must_read, self._fallback.readers_behind(self._notice.notice)))
        except FallbackUnreachable:
            if self._posted is None and self._clock() >= self._give_up_at:
                raise
        if self._posted is None or (self._behind and self._clock() < self._leases_expire_at):
            return False
        self._remove_behind()
        return True

    @property
    def workers(self) -> int:
        """How many readers had to read the notice."""
        return sum(not self._has_exited(reader) for reader in self._notice.readers)

    @property
    def acknowledged(self) -> int:
        """How many of them read it; the reader leases of the others have expired."""
        return self.workers - len(self._behind)

    def _post(self) -> None:
        self._posted = self._fallback.post_notice()
        self._behind = frozenset(self._posted.readers)
        self._leases_expire_at = self._clock() + expiry_wait_seconds(self._reader_lease_seconds)

    def _must_read(self, reader: PollerId) -> bool:
        """False if the process has exited, or if it was added later: it then read the notice before it held a lease."""
        return reader in self._notice.readers and not self._has_exited(reader)

    def _remove_behind(self) -> None:
        with suppress(FallbackUnreachable):  # if this fails, the next revocation waits for them again
            self._fallback.remove_readers({reader: self._notice.readers[reader] for reader in self._behind})

    @property
    def _notice(self) -> PostedNotice:
        assert self._posted is not None  # noqa: S101  only used after the notice was posted
        return self._posted
