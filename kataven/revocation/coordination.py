"""The state that workers and revokers share in Redis: the list of workers, the epoch and pending acknowledgements.

One hash contains the list and the epoch, so that they can only be lost together. `…:pending:<id>` contains the workers
that have not acknowledged an event, and `…:done:<id>` wakes the revoker. `…:times:<id>` contains when each worker
acknowledged, for receipts. `…:recent` contains the keys that were revoked recently: a third record of each revocation,
for a failover that loses both of the others. The protocol does not rely on these two. All keys hash to one slot, so the
protocol also works on a Redis Cluster.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kataven.redis_clients.script import Execute
from kataven.revocation.epoch import Epoch, encode_body
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.scripts import ACKNOWLEDGE, PUBLISH, RENEW, SWEEP
from kataven.revocation.target import RevocationTarget, RevokedKey

KEEP_ACKNOWLEDGEMENTS_MILLISECONDS = 60_000
"""How long Redis keeps the acknowledgements of one event: longer than any revoker waits. Losing them earlier only makes
that revocation slower."""

KEEP_RECENT_MILLISECONDS = 24 * 60 * 60 * 1000
"""How long Redis keeps a revoked key: longer than a failed PostgreSQL server takes to be replaced or demoted."""
MAX_RECENT = 20_000
"""How many revoked keys Redis keeps: the latest ones."""
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Published:
    """A published event. `workers` maps each worker that may hold a lease, and must acknowledge, to its record."""

    epoch: Epoch
    published_at_microseconds: int
    """By Redis's clock."""
    workers: Mapping[str, str]
    ack_id: str


@dataclass(frozen=True, slots=True)
class Member:
    """A listed worker, for display."""

    id: str
    host: str
    pid: int
    lease_seconds: float
    confirmed_seconds_ago: float
    """By Redis's clock. For display only: that clock may be set."""


class CoordinationStore:
    """The shared state, accessed through `execute`. Every method raises redis.RedisError."""

    def __init__(self, execute: Execute, namespace: str) -> None:
        self._execute = execute
        self._prefix = f"{{{namespace}:revocation}}"
        self._state = f"{self._prefix}:state"
        self._recent = f"{self._prefix}:recent"
        self._recent_times = f"{self._prefix}:recent-times"
        self.channel = f"{self._prefix}:events"

    def renew(self, worker: str, record: str) -> Epoch:
        """Add the worker to the list, with a record that differs from its last one. Returns the current epoch."""
        redis, count = RENEW(self._execute, [self._state], [_nonce(), worker, record])
        return Epoch(redis, int(count))

    def publish(self, target: RevocationTarget, revoked_key: RevokedKey | None = None) -> Published:
        """Publish an event that every worker must acknowledge, and record `revoked_key`."""
        ack_id = _nonce()
        keep = KEEP_ACKNOWLEDGEMENTS_MILLISECONDS
        redis, count, microseconds, workers = self._publish(target, ack_id, keep, revoked_key)
        records = dict(zip(workers[::2], workers[1::2], strict=True))
        return Published(Epoch(redis, int(count)), int(microseconds), records, ack_id)

    def announce(self, target: RevocationTarget, revoked_key: RevokedKey | None = None) -> None:
        """Publish an event that needs no acknowledgement, and record `revoked_key`."""
        self._publish(target, None, 0, revoked_key)

    def acknowledge(self, ack_id: str, worker: str, microseconds: int = 0) -> None:
        """`microseconds` is how long ago the worker received the event."""
        keys = [*self._ack_keys(ack_id), self._times(ack_id)]
        ACKNOWLEDGE(self._execute, keys, [worker, KEEP_ACKNOWLEDGEMENTS_MILLISECONDS, microseconds])

    def dismiss(self, ack_id: str, workers: Iterable[str]) -> None:
        """Stop waiting for the acknowledgements of these workers, which have ended."""
        # Not among the times of this event: receipts list only workers that acknowledged.
        keys = [*self._ack_keys(ack_id), self._times("none")]
        for worker in workers:
            ACKNOWLEDGE(self._execute, keys, [worker, KEEP_ACKNOWLEDGEMENTS_MILLISECONDS, 0])

    def acknowledgements(self, ack_id: str) -> dict[str, tuple[int, int]]:
        """For each worker that acknowledged: when, in microseconds by Redis's clock, and how many microseconds before
        that it had received the event. Workers of an earlier release are missing."""
        found = self._execute("HGETALL", self._times(ack_id)).items()
        return {worker: (int(times.split(" ")[0]), int(times.split(" ")[1])) for worker, times in found}

    def wait_for_last_acknowledgement(self, ack_id: str, seconds: float) -> int | None:
        """When the last worker acknowledged, in microseconds by Redis's clock; None if not within `seconds`."""
        found = self._execute("BLPOP", self._ack_keys(ack_id)[1], seconds)
        return None if found is None else int(found[1])

    def unacknowledged(self, published: Published) -> frozenset[str]:
        """The workers that have not acknowledged, after `wait_for_last_acknowledgement` returned None."""
        pending, done = self._ack_keys(published.ack_id)
        missing = frozenset(self._execute("SMEMBERS", pending))
        if missing or self._execute("EXISTS", done):
            return missing
        # Redis has lost the set before it became empty, so no acknowledgement is known.
        return frozenset(published.workers)

    def is_recently_revoked(self, key: RevokedKey) -> bool:
        """Whether the key was revoked within about the last day, as far as Redis still has the record.

        For a key with a generation: whether that generation was revoked.
        """
        generation = self._execute("HGET", self._recent, _field(key))
        if generation is None or key.generation is None:
            return generation is not None
        return generation == "" or key.generation < int(generation)

    def recently_revoked(self) -> list[RevokedKey]:
        """The keys that were revoked recently, the latest first. Read in pages, so that each command is short.

        A key that is revoked meanwhile moves to the front and may be missing.
        """
        found: dict[str, str] = {}
        while names := self._execute("ZREVRANGE", self._recent_times, len(found), len(found) + _PAGE - 1):
            before = len(found)
            for name, generation in zip(names, self._execute("HMGET", self._recent, *names), strict=True):
                found[name] = generation
            if len(found) == before:  # only keys that moved
                break
        return [_revoked_key(*item) for item in found.items() if item[1] is not None]

    def records(self) -> dict[str, str]:
        """Every listed worker with its record."""
        return {
            field.removeprefix("worker:"): record
            for field, record in self._execute("HGETALL", self._state).items()
            if field.startswith("worker:")
        }

    def sweep(self, records: Mapping[str, str]) -> None:
        """Remove these workers from the list, except those whose record has changed."""
        if records:
            SWEEP(self._execute, [self._state], [text for pair in records.items() for text in pair])

    def deregister(self, worker: str) -> None:
        """Remove a worker that has given up its lease."""
        self._execute("HDEL", self._state, f"worker:{worker}")

    def members(self) -> list[Member]:
        """The list of workers, for display."""
        seconds, microseconds = self._execute("TIME")
        now = int(seconds) + int(microseconds) / 1_000_000
        return sorted((_member(*item, now) for item in self.records().items()), key=lambda member: member.id)

    def _publish(
        self, target: RevocationTarget, ack_id: str | None, keep: int, revoked_key: RevokedKey | None = None
    ) -> tuple[str, str, str, list[str]]:
        keys = [self._state, self._ack_keys(ack_id or "none")[0], self._recent, self._recent_times]
        recent: tuple[str | int, ...] = ("", "", 0, 0)
        if revoked_key is not None:
            generation = "" if revoked_key.generation is None else revoked_key.generation
            recent = (_field(revoked_key), generation, KEEP_RECENT_MILLISECONDS, MAX_RECENT)
        reply: tuple[str, str, str, list[str]] = PUBLISH(
            self._execute, keys, [_nonce(), self.channel, encode_body(target, ack_id), keep, *recent]
        )
        return reply

    def _times(self, ack_id: str) -> str:
        return f"{self._prefix}:times:{ack_id}"

    def _ack_keys(self, ack_id: str) -> list[str]:
        return [f"{self._prefix}:pending:{ack_id}", f"{self._prefix}:done:{ack_id}"]


def encode_record(heartbeat: int, lease_seconds: float, host: str, process: PollerId) -> str:
    """The record that a worker writes. `heartbeat` makes each record different from the last.

    The PID namespace follows the heartbeat, because earlier releases read the number of values and ignore the first.
    """
    return json.dumps([f"{heartbeat} {process.pid_namespace}", lease_seconds, host, process.pid])


def process_of(worker: str, text: str) -> PollerId:
    """The process that wrote this record. Without a PID namespace, if it belongs to an earlier release. Later releases
    may append values."""
    heartbeat, _, _, pid, *_ = json.loads(text.split(" ", 1)[1])
    return PollerId(worker, str(heartbeat).partition(" ")[2], pid)


def lease_seconds_of(text: str) -> float:
    """The lease length of the worker that wrote this record."""
    return float(json.loads(text.split(" ", 1)[1])[1])


def _member(worker: str, text: str, now: float) -> Member:
    microseconds, written = text.split(" ", 1)
    _, lease_seconds, host, pid, *_ = json.loads(written)
    return Member(worker, host, pid, lease_seconds, max(0.0, now - int(microseconds) / 1_000_000))


def _field(key: RevokedKey) -> str:
    return f"{key.account} {key.key_id}"


def _revoked_key(field: str, generation: str) -> RevokedKey:
    account, key_id = field.split(" ", 1)
    return RevokedKey(account, key_id, int(generation) if generation else None)


def _nonce() -> str:
    return secrets.token_hex(8)
