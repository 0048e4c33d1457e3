"""What a revocation covers."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

ANY_KEY = "*"
"""The `key_id` of cache entries that depend on all keys of an account."""

ANY_SUBJECT = "*"
"""The `subject` of cache entries that depend on the cutoffs of all users in their account. With the account None: on
the cutoffs that concern all accounts."""


@dataclass(frozen=True, slots=True)
class RevocationTarget:
    """One credential of an account; without `key_id`, everything of the account; without both, everything.

    With `subject`, the id of a user: only what the user has, in one account, or in all if the account is None.

    An event contains the target and no reason: workers evict every cache entry that it covers. A cache entry whose
    `key_id` is `ANY_KEY` is covered by the events of each key of its account. One whose `subject` is `ANY_SUBJECT` is
    covered by the events of each user that concern exactly its account: an event that concerns a user in all accounts
    does not evict the record of every account.
    """

    account: str | None
    key_id: str | None = None
    subject: str | None = None

    def covers(self, other: RevocationTarget) -> bool:
        """Whether this target includes all of `other`."""
        return (
            (self.account is None or self.account == other.account)
            and (self.key_id is None or self.key_id == other.key_id or other.key_id == ANY_KEY)
            and (self.subject is None or self._covers_subject(other))
        )

    def _covers_subject(self, other: RevocationTarget) -> bool:
        return self.subject == other.subject or (other.subject == ANY_SUBJECT and self.account == other.account)


EVERYTHING = RevocationTarget(None)


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key to journal once its revocation is committed.

    `generation` is set for a key that can be enabled again: lower generations of it are revoked. None: all are.
    """

    account: str
    key_id: str
    generation: int | None = None


def secrets_of(key_id: str) -> str:
    """The id under which ended secrets of an API key are journalled, with a generation: lower generations are ended.

    It differs from the key's id, so that a process of an older release does not take the whole key for revoked.
    """
    return str(uuid5(UUID(key_id), "secrets"))
