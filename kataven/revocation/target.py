"""What a revocation is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RevocationTarget:
    """One credential of an account; with `key_id` None all that belongs to the account; with both None, everything.

    An event says what has to be forgotten and not why: whatever was remembered about the scope goes.
    """

    account: str | None
    key_id: str | None = None

    def covers(self, other: RevocationTarget) -> bool:
        """Whether all of `other` is in here."""
        return (self.account is None or self.account == other.account) and (
            self.key_id is None or self.key_id == other.key_id
        )


EVERYTHING = RevocationTarget(None)
