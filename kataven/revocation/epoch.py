"""The epoch: each event increments it, so that a worker can detect an event that it missed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from kataven.revocation.target import RevocationTarget


@dataclass(frozen=True, slots=True)
class Epoch:
    """How many events one Redis has published. Two equal epochs have the same history.

    `redis` identifies the server (`lua/whoami.lua`) and changes whenever it may have lost data. Without it, a server
    that was restored from older data could reach the same count with other events.
    """

    redis: str
    count: int


@dataclass(frozen=True, slots=True)
class Event:
    """A message to all workers: evict `target`. `before` and `after` are the epochs before and after the event."""

    before: Epoch
    after: Epoch
    target: RevocationTarget
    ack_id: str | None
    """The id to acknowledge the event with; None if no revoker waits for it."""

    @classmethod
    def parse(cls, message: str) -> Event:
        """Parse what `lua/publish.lua` sends. Raises ValueError, LookupError or TypeError for anything else."""
        redis, count, body = message.split(" ", 2)
        account, key_id, ack_id, *narrowing = json.loads(body)
        fields = narrowing[0] if narrowing else {}
        target = RevocationTarget(account, key_id, fields.get("subject"))
        return cls(Epoch(redis, int(count) - 1), Epoch(redis, int(count)), target, ack_id)


def encode_body(target: RevocationTarget, ack_id: str | None) -> str:
    """The part of a message that its sender writes; the script adds the epoch.

    The first two entries always cover the target, and the fields of a fourth entry only narrow it. A worker therefore
    ignores a field that it does not know, and evicts more than necessary, never less. A worker of the first releases,
    which reads exactly three entries, rejects the message, connects again and clears its cache.
    """
    if target.subject is None:
        return json.dumps([target.account, target.key_id, ack_id])
    return json.dumps([target.account, target.key_id, ack_id, {"subject": target.subject}])
