"""The third record of a revoked key, in Redis, for a failover that loses the other two.

If an account's database is on the server of the system database, a failover of that server can lose the commit and the
journal entry together. Redis does not take part in that failover. Its record is read on cache misses, for
`UNSETTLED_SECONDS` after a server was found to have another history.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from kataven.identity.errors import VerifierUnavailable
from kataven.revocation.revocation import RecentRevocationsUnknown, Revocation
from kataven.revocation.target import RevokedKey
from kataven.tenancy.serving.histories import ServerHistories

RETRY_SECONDS = 1.0
"""How long an unreachable Redis is not asked again: a Redis that does not respond would delay each verification."""


class RecentRevocations:
    """Decides whether Redis's record must be read, and reads it."""

    def __init__(
        self, revocation: Revocation, histories: ServerHistories, clock: Callable[[], float] = monotonic
    ) -> None:
        self._revocation = revocation
        self._histories = histories
        self._clock = clock
        self._unreachable_until = 0.0

    def covers(self, key: RevokedKey) -> bool:
        """Whether the key was revoked recently. False without a round trip if no server's history changed.

        Raises VerifierUnavailable if the history changed and Redis is unreachable. Before a process has compared a
        server's history with the recorded one, an unreachable Redis is not an error: most processes start without a
        failover.
        """
        if not self._histories.may_have_changed():
            return False
        if self._clock() >= self._unreachable_until:
            try:
                return self._revocation.is_recently_revoked(key)
            except RecentRevocationsUnknown:
                self._unreachable_until = self._clock() + RETRY_SECONDS
        if not self._histories.changed_recently():
            return False
        raise VerifierUnavailable(
            "A database failover may have lost revocations, and Redis, which has a record of them, is unavailable."
        )
