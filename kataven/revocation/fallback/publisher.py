"""One revocation told by a notice, from the moment at which Redis did not answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kataven.revocation.fallback.channel import FallbackChannel, FallbackUnreachable, PollerId, PostedNotice
from kataven.revocation.lease import Clock, expiry_wait_seconds

HasExited = Callable[[PollerId], bool]


class FallbackPublisher:
    """Post it, and see who has read it. Nothing in here waits; `give_up_at` is when to stop trying to post."""

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
        self._missing: frozenset[PollerId] = frozenset()

    def advance(self) -> bool:
        """Whether every worker has forgotten, or has no lease any more.

        Raises NoticesUnreachable if nothing could be posted until the time to give up has come.
        """
        try:
            if self._posted is None:
                self._post()
            self._missing = frozenset(filter(self._counts, self._fallback.readers_behind(self._latest.notice)))
        except FallbackUnreachable:
            if self._posted is None and self._clock() >= self._give_up_at:
                raise
        if self._posted is None or (self._missing and self._clock() < self._leases_expire_at):
            return False
        self._remove_missing_readers()
        return True

    @property
    def workers(self) -> int:
        """How many there were to tell."""
        return sum(not self._has_exited(reader) for reader in self._latest.readers)

    @property
    def acknowledged(self) -> int:
        """How many of them have forgotten; the leases of the others were waited out."""
        return self.workers - len(self._missing)

    def _post(self) -> None:
        self._posted = self._fallback.post_notice()
        self._missing = frozenset(self._posted.readers)
        self._leases_expire_at = self._clock() + expiry_wait_seconds(self._reader_lease_seconds)

    def _counts(self, reader: PollerId) -> bool:
        """Those that came later read the notice before they had a lease; the dead remember nothing."""
        return reader in self._latest.readers and not self._has_exited(reader)

    def _remove_missing_readers(self) -> None:
        with suppress(FallbackUnreachable):  # then the next revocation waits for them again
            self._fallback.remove_readers({reader: self._latest.readers[reader] for reader in self._missing})

    @property
    def _latest(self) -> PostedNotice:
        assert self._posted is not None  # noqa: S101  nobody asks before something is posted
        return self._posted
