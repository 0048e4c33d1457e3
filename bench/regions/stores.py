"""The state that the protocol keeps: one Redis per region, and the region list in the system database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.regions.events import Future
from kataven.revocation import RevocationTarget
from kataven.revocation.epoch import Epoch, Event

Deliver = Callable[[Event], None]
_servers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a coordinator writes into the Redis of its region after a heartbeat in the system database.

    It confirms the region lease of each worker whose renewal had got a round up to `round`.
    """

    round: int
    notice: int
    """The latest region notice that the heartbeat returned."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The reply to a renewal."""

    epoch: Epoch
    round: int
    grant: Grant | None


class RegionalRedis:
    """The Redis of a region. Each method is one Lua script, so it is atomic. `publish`, `renew`, `acknowledge` and
    `sweep` do what the product's scripts do; `round` and `grant` are new."""

    def __init__(self) -> None:
        self.id = f"redis{next(_servers)}"
        self.count = 0
        self.round = 0
        self.grant: Grant | None = None
        self.workers: dict[int, int] = {}
        """The list of workers: each with the number of its last heartbeat."""
        self.subscribers: dict[int, Deliver] = {}
        self._pending: dict[int, set[int]] = {}
        self._done: dict[int, Future] = {}
        self._publications = itertools.count(1)

    def renew(self, worker: int, heartbeat: int) -> Renewal:
        self.workers[worker] = heartbeat
        self.round += 1
        return Renewal(Epoch(self.id, self.count), self.round, self.grant)

    def publish(self, target: RevocationTarget) -> Published:
        self.count += 1
        publication, done = next(self._publications), Future()
        self._pending[publication], self._done[publication] = set(self.workers), done
        if not self.workers:
            done.resolve(True)
        event = Event(Epoch(self.id, self.count - 1), Epoch(self.id, self.count), target, str(publication))
        for deliver in list(self.subscribers.values()):
            deliver(event)
        return Published(self.id, publication, dict(self.workers), done)

    def acknowledge(self, publication: str, worker: int) -> None:
        waiting = self._pending.get(int(publication), set())
        waiting.discard(worker)
        if not waiting and int(publication) in self._done:
            self._done[int(publication)].resolve(True)

    def unacknowledged(self, publication: int) -> set[int]:
        return set(self._pending.get(publication, set()))

    def sweep(self, heartbeats: Mapping[int, int]) -> None:
        """Remove these workers from the list, except those that have renewed since."""
        for worker, heartbeat in heartbeats.items():
            if self.workers.get(worker) == heartbeat:
                del self.workers[worker]

    def write_grant(self, redis: str, grant: Grant) -> None:
        """Only if this server is the one that the heartbeat named."""
        if redis == self.id and (self.grant is None or grant.round > self.grant.round):
            self.grant = grant


@dataclass(frozen=True)
class Published:
    """A published event."""

    redis: str
    publication: int
    workers: Mapping[int, int]
    done: Future


Member = tuple[str, str]
"""A region and the identity of a Redis there: what the region list contains."""


@dataclass
class Row:
    """A row of the region list."""

    heartbeat: int
    read_notice: int = 0
    """The latest region notice that took effect in this region."""


@dataclass(frozen=True)
class HeartbeatReply:
    """What a heartbeat returns."""

    notice: int
    overdue: tuple[RevocationTarget, ...]


@dataclass
class SystemDatabase:
    """The region list, region notices and revocation intents. Each method is one transaction."""

    clock: Callable[[], float]
    rows: dict[Member, Row] = field(default_factory=dict)
    notice: int = 0
    intents: dict[int, tuple[float, RevocationTarget]] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def heartbeat(self, member: Member, heartbeat: int, read_notice: int, overdue_seconds: float) -> HeartbeatReply:
        """Write the heartbeat, *then* read the latest notice."""
        row = self.rows.setdefault(member, Row(heartbeat))
        row.heartbeat = max(row.heartbeat, heartbeat)
        row.read_notice = max(row.read_notice, read_notice)
        overdue = tuple(t for at, t in self.intents.values() if overdue_seconds < self.clock() - at < 60.0)
        return HeartbeatReply(self.notice, overdue)

    def members(self) -> frozenset[Member]:
        return frozenset(self.rows)

    def post_notice(self) -> tuple[int, dict[Member, int]]:
        """Post a region notice, *then* read the region list."""
        self.notice += 1
        return self.notice, {member: row.heartbeat for member, row in self.rows.items()}

    def behind(self, notice: int) -> frozenset[Member]:
        return frozenset(member for member, row in self.rows.items() if row.read_notice < notice)

    def remove(self, heartbeats: Mapping[Member, int]) -> None:
        """Remove these rows, except those with a later heartbeat."""
        for member, heartbeat in heartbeats.items():
            if member in self.rows and self.rows[member].heartbeat == heartbeat:
                del self.rows[member]

    def add_intent(self, target: RevocationTarget) -> int:
        intent = next(self._ids)
        self.intents[intent] = (self.clock(), target)
        return intent

    def remove_intent(self, intent: int) -> None:
        self.intents.pop(intent, None)
