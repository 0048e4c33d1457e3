"""What the workers of one region cost its Redis: the product's scripts on a real server.

Each worker has a connection, sends one renewal at a time, and is subscribed to the events, as in the product. One
process plays all workers, so the times of receipts contain that process's work for every worker. The CPU time is that
of the server alone (`INFO cpu`).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import hiredis
import redis

from kataven.redis_clients.script import RedisScript
from kataven.revocation import Percentiles, RevocationTarget
from kataven.revocation.coordination import CoordinationStore, encode_record
from kataven.revocation.epoch import Event
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.scripts import ACKNOWLEDGE, RENEW
from kataven.revocation.subscriber import RENEWALS_PER_LEASE

NAMESPACE = "bench"
LEASE_SECONDS = 1.0
SIZES = (4, 50, 200, 1_000)
RENEWALS = 10_000
PUBLICATIONS = 40
ROUNDS = 3
KEEP_MILLISECONDS = 60_000


@dataclass(frozen=True)
class Cost:
    """What one region of `workers` costs its Redis."""

    workers: int
    renewal_cpu_seconds: float
    """Per renewal."""
    publication_cpu_seconds: float
    """Per revocation: the publication, the delivery to each worker, and the acknowledgements."""
    receipts: Percentiles
    """From the publication to the last acknowledgement, with one process that plays all workers."""
    renewals_per_second: float
    """What this process achieved; it is the limit, not Redis."""

    @property
    def renewal_share(self) -> float:
        """The share of one core that renewals take."""
        return self.workers * RENEWALS_PER_LEASE / LEASE_SECONDS * self.renewal_cpu_seconds

    @property
    def revocations_per_second(self) -> float:
        """How many revocations per second fit into the rest of the core."""
        return max(0.0, 1 - self.renewal_share) / self.publication_cpu_seconds


class Workers:
    """The connections of all workers, subscribed."""

    def __init__(self, path: Path, count: int) -> None:
        self._prefix = f"{{{NAMESPACE}:revocation}}"
        self._channel = f"{self._prefix}:events"
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._readers: dict[socket.socket, hiredis.Reader] = {}
        self._numbers: dict[socket.socket, int] = {}
        for number in range(count):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            self._sockets.append(connection)
            self._readers[connection] = hiredis.Reader(encoding="utf-8")
            self._numbers[connection] = number
            connection.sendall(_pack("HELLO", 3) + _pack("SUBSCRIBE", self._channel))
            self._read(connection, 2)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)

    def renew(self, heartbeat: int) -> None:
        """Each worker sends one renewal and waits for its reply."""
        for connection, number in self._numbers.items():
            record = encode_record(heartbeat, LEASE_SECONDS, "host", PollerId("", "", number))
            connection.sendall(_call(RENEW, [f"{self._prefix}:state"], ["nonce", f"worker{number}", record]))
        waiting = len(self._sockets)
        while waiting:
            for key, _ in self._selector.select():
                waiting -= len(self._replies(key.fileobj))  # type: ignore[arg-type]

    def acknowledge(self) -> None:
        """Each worker receives one event and acknowledges it. Returns when all replies have arrived."""
        waiting = 2 * len(self._sockets)
        while waiting:
            for key, _ in self._selector.select():
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                for reply in self._replies(connection):
                    waiting -= 1
                    if isinstance(reply, list) and reply[0] == "message":
                        event = Event.parse(reply[2])
                        keys = [f"{self._prefix}:{name}:{event.ack_id}" for name in ("pending", "done", "times")]
                        worker = f"worker{self._numbers[connection]}"
                        connection.sendall(_call(ACKNOWLEDGE, keys, [worker, KEEP_MILLISECONDS, 0]))

    def close(self) -> None:
        self._selector.close()
        for connection in self._sockets:
            connection.close()

    def _replies(self, connection: socket.socket) -> list[object]:
        reader = self._readers[connection]
        reader.feed(connection.recv(65_536))
        found = []
        while (reply := reader.gets()) is not False:
            if isinstance(reply, Exception):
                raise reply
            found.append(reply)
        return found

    def _read(self, connection: socket.socket, count: int) -> None:
        while count:
            count -= len(self._replies(connection))


def measure(redis_url: str, workers: int) -> Cost:
    """Measure one size. The server must have no other clients."""
    path = Path(urlsplit(redis_url).path)
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    client.flushall()
    store = CoordinationStore(client.execute_command, NAMESPACE)
    for script in (RENEW, ACKNOWLEDGE):
        client.script_load(script.source)
    team = Workers(path, workers)
    try:
        team.renew(0)
        per_round = max(1, RENEWALS // workers // ROUNDS)
        renewals, rates = [], []
        for number in range(ROUNDS):
            before, started = _cpu_seconds(client), time.perf_counter()
            for heartbeat in range(per_round):
                team.renew(1 + number * per_round + heartbeat)
            renewals.append((_cpu_seconds(client) - before) / per_round / workers)
            rates.append(per_round * workers / (time.perf_counter() - started))
        publications, durations = [], []
        for _ in range(ROUNDS):
            before = _cpu_seconds(client)
            for _ in range(PUBLICATIONS // ROUNDS):
                published = store.publish(RevocationTarget("acme", "key"))
                team.acknowledge()
                done = store.wait_for_last_acknowledgement(published.ack_id, 10)
                assert done is not None
                durations.append((done - published.published_at_microseconds) / 1000)
            publications.append((_cpu_seconds(client) - before) / (PUBLICATIONS // ROUNDS))
        receipts = Percentiles.of(durations)
        assert receipts is not None
        return Cost(workers, median(renewals), median(publications), receipts, median(rates))
    finally:
        team.close()
        client.close()


def _cpu_seconds(client: redis.Redis) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _call(script: RedisScript, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
    return script.pack(keys, arguments)


def _pack(*command: str | int) -> bytes:
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # its stub says: one argument
