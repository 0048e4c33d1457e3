"""What a revocation covers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RevocationTarget:
    """One credential of an account; without `key_id`, everything of the account; without both, everything.

    An event contains the target and no reason: workers evict every cache entry that it covers.
    """

    account: str | None
    key_id: str | None = None

    def covers(self, other: RevocationTarget) -> bool:
        """Whether this target includes all of `other`."""
        return (self.account is None or self.account == other.account) and (
            self.key_id is None or self.key_id == other.key_id
        )


EVERYTHING = RevocationTarget(None)
