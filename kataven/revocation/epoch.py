"""The third rule. Each event raises an epoch, so that a worker can tell whether it has heard them all."""

from __future__ import annotations

import json
from dataclasses import dataclass

from kataven.revocation.target import RevocationTarget


@dataclass(frozen=True, slots=True)
class Epoch:
    """How many events there were in one Redis's memory. Two epochs that are equal have the same past.

    `redis` is another one when Redis may have forgotten something (`lua/whoami.lua`): one that came back with old data
    may count up to the same number again.
    """

    redis: str
    count: int


@dataclass(frozen=True, slots=True)
class Event:
    """One message: forget `scope`. `before` and `after` are the epochs that it lies between."""

    before: Epoch
    after: Epoch
    target: RevocationTarget
    ack_id: str | None
    """Under which to acknowledge it; None if nobody waits."""

    @classmethod
    def parse(cls, message: str) -> Event:
        """From what `lua/publish.lua` sends. Raises ValueError, LookupError or TypeError for anything else."""
        redis, count, body = message.split(" ", 2)
        account, key_id, ack_id = json.loads(body)
        return cls(Epoch(redis, int(count) - 1), Epoch(redis, int(count)), RevocationTarget(account, key_id), ack_id)


def encode_body(target: RevocationTarget, ack_id: str | None) -> str:
    """The part of a message that its sender writes."""
    return json.dumps([target.account, target.key_id, ack_id])
