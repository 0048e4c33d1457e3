"""A user of the identity provider: an id, and up to which time of issue their tokens are refused.

A user is an issuer and a `sub`. A cutoff refuses every token that the issuer issued to the user up to a moment. A block
refuses the user in one account until it is lifted, whatever the token says.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from uuid import UUID

from kataven.identity.errors import AccessBlocked, Refused, SessionEnded


@dataclass(frozen=True, slots=True)
class Person:
    """A user of an issuer."""

    issuer: str
    sub: str

    @property
    def id(self) -> str:
        """An opaque id, a UUID of version 8 (RFC 9562, section 5.8): the same for the same issuer and `sub`."""
        digest = bytearray(hashlib.sha256(f"{self.issuer}\0{self.sub}".encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return str(UUID(bytes=bytes(digest)))


@dataclass(frozen=True, slots=True)
class Presented:
    """The facts of a token, or of a browser session, that a cutoff is compared with. Times are Unix seconds."""

    person: str
    """The id of its user."""
    issued_at: float | None
    """`iat`; None if the token does not state it. A session's start."""
    signed_in_at: float | None = None
    """`auth_time`, if the token states it. A refreshed token has a new `iat` and keeps its `auth_time`."""

    @property
    def oldest(self) -> float:
        """The earliest of its times. A cutoff before it does not concern the token."""
        if self.issued_at is None:
            return -math.inf
        return self.issued_at if self.signed_in_at is None else min(self.issued_at, self.signed_in_at)


@dataclass(frozen=True, slots=True)
class Restrictions:
    """The cutoff and the block that concern one user in one account. Times are Unix seconds."""

    ended_at: float = -math.inf
    """Tokens issued in this second or earlier are refused."""
    signed_out_at: float = -math.inf
    """The same for tokens that state when the user signed in."""
    blocked: bool = False

    def refusal(self, presented: Presented) -> Refused | None:
        """Why the token is refused; None if it is not."""
        if self.blocked:
            return AccessBlocked()
        issued_at = -math.inf if presented.issued_at is None else presented.issued_at
        if self.ended_at > -math.inf and not is_after(issued_at, self.ended_at):
            return SessionEnded()
        if presented.signed_in_at is not None and not is_after(presented.signed_in_at, self.signed_out_at):
            return SessionEnded()
        return None


UNRESTRICTED = Restrictions()


def is_after(moment: float, cutoff: float) -> bool:
    """Whether `moment` is in a later second than `cutoff`. Issuers state times in whole seconds, so a token from the
    second of the cutoff may be older than the cutoff."""
    return cutoff == -math.inf or (cutoff < math.inf and moment >= math.floor(cutoff) + 1)
