"""No fallback channel: for an application whose processes share a Redis server and nothing else.

Without Redis, `revoke` raises RevocationUnconfirmed instead of notifying the workers through another channel; repeat it
until it returns a receipt. The workers stop using their caches in the meantime, when their leases expire. A revoker
can't detect a worker that holds a lease from another Redis, such as a paused primary after a failover: use one Redis
server, or a fallback channel. Intents and a journal need storage, so neither exists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

from kataven.revocation.fallback.channel import (
    FallbackNotice,
    FallbackState,
    FallbackUnreachable,
    PollerHeartbeat,
    PollerId,
    PostedNotice,
)
from kataven.revocation.target import RevocationTarget, RevokedKey

_NEVER_POSTED = FallbackNotice(0, "")


class NoFallback:
    """A `FallbackChannel` on which nothing can be posted."""

    def read_state(self, overdue_after_seconds: float) -> FallbackState:
        return FallbackState(_NEVER_POSTED, frozenset())

    def write_heartbeat(self, heartbeat: PollerHeartbeat) -> FallbackNotice:
        return _NEVER_POSTED

    def post_notice(self) -> PostedNotice:
        _refuse()

    def readers_behind(self, notice: FallbackNotice) -> frozenset[PollerId]:
        _refuse()

    def readers_with_other_home(self, redis: str) -> frozenset[PollerId]:
        return frozenset()

    def heartbeat_counts(self) -> dict[PollerId, int]:
        return {}

    def remove_readers(self, heartbeats: Mapping[PollerId, int]) -> None: ...

    def deregister(self, reader: PollerId) -> None: ...

    def add_intent(self, target: RevocationTarget) -> str:
        _refuse()

    def remove_intents(self, intents: Collection[str]) -> None: ...

    def journal(self, key: RevokedKey) -> None: ...

    def expire_journal(self) -> None: ...


def _refuse() -> NoReturn:
    raise FallbackUnreachable("this application has no fallback channel")
