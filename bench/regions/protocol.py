"""The processes of the protocol: workers, coordinators and revokers. `docs/regions.md` describes it.

A worker runs the product's guard (`kataven/revocation/guard.py`). Its reader lease is the region lease here: the region
notice takes the place of the fallback notice, and the coordinator's heartbeats that of the worker's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from bench.regions.events import Future, Loop, Network, Steps, first_of
from bench.regions.stores import Grant, Member, Published, RegionalRedis, Renewal, SystemDatabase
from kataven.revocation import Guard, RevocationTarget
from kataven.revocation.epoch import Event
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease, expiry_wait_seconds
from kataven.revocation.target import EVERYTHING

LEASE_SECONDS = 1.0
REGION_LEASE_SECONDS = 10.0
RENEWALS_PER_LEASE = 4
HEARTBEAT_SECONDS = LEASE_SECONDS / 2
"""How often a coordinator writes a heartbeat: as often as a worker polls for fallback notices in the product."""
RELAY_SECONDS = 1.5 * LEASE_SECONDS
"""How long a revoker waits for the regions before it posts a region notice."""
POLL_SECONDS = LEASE_SECONDS / 4
OLD_LIST_SECONDS = 3.0
"""The age of the region list of a revoker that reads it before the commit."""
CLOCK_ERROR = 0.0099
"""The clocks of two machines run at rates that differ by less than 2 %, as the protocol assumes."""

RULES = {
    "region lease": "a worker uses its cache only while its region lease is valid",
    "round before heartbeat": "a coordinator grants the round that it read before it sent the heartbeat",
    "region barrier": "a coordinator reports a revocation only after the barrier of its region",
    "evict": "a worker evicts before it acknowledges",
    "epoch": "a worker that finds an epoch other than its own clears its cache",
    "fill tokens": "a result that was read before an event is not cached",
    "wait for regions": "a revoker waits for the region lease of a region that does not report",
    "row for each Redis": "the region list has a row for each Redis, and not for each region",
    "list after commit": "a revoker reads the region list after the commit, and not some seconds before it",
}
"""The rules that a test takes out, one at a time."""


@dataclass
class World:
    """All state of a simulation."""

    loop: Loop
    random: Random
    network: Network
    home: str
    """The region of the system database."""
    without: str | None = None
    """The rule that is taken out."""
    event_loss: float = 0.0
    regions: dict[str, Region] = field(default_factory=dict)
    revoked_at: dict[str, float] = field(default_factory=dict)
    """The time of the commit, by key."""
    receipt_at: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    checks: int = 0

    def __post_init__(self) -> None:
        self.system_database = SystemDatabase(lambda: self.loop.now)

    def clock(self) -> Callable[[], float]:
        """The clock of one machine, with its own rate and origin."""
        rate = 1 + self.random.uniform(-CLOCK_ERROR, CLOCK_ERROR)
        origin = self.random.uniform(0, 1e6)
        return lambda: origin + self.loop.now * rate

    def member(self, region: str, redis: str) -> Member:
        """The row of a Redis in the region list."""
        return region, "" if self.without == "row for each Redis" else redis

    def workers(self) -> list[Worker]:
        return [worker for region in self.regions.values() for worker in region.workers]

    def record_receipt(self, key: str) -> None:
        """A receipt was returned: from now on, no worker may accept the key."""
        self.receipt_at[key] = self.loop.now
        for worker in self.workers():
            worker.check(key)


class Region:
    """A region: its Redis, its workers and its coordinator."""

    def __init__(self, world: World, name: str, workers: int) -> None:
        self.world = world
        self.name = name
        self.redis = RegionalRedis()
        self.other_redis: RegionalRedis | None = None
        """A second server that responds at once, to every other worker."""
        self.workers = [Worker(self, number) for number in range(workers)]
        self.coordinator = Coordinator(self)
        world.regions[name] = self

    def start(self) -> None:
        for worker in self.workers:
            worker.start()
        self.world.loop.spawn(self.coordinator.run())

    def replace_redis(self) -> None:
        """Another server takes over without data. Workers and the coordinator connect to it at their next command."""
        self.redis = RegionalRedis()

    def split(self) -> None:
        """A second Redis responds, with a coordinator that reaches only this one."""
        self.other_redis = RegionalRedis()
        self.world.loop.spawn(Coordinator(self, self.other_redis).run())

    def unite(self) -> None:
        self.other_redis = None

    def redis_of(self, worker: int) -> RegionalRedis:
        return self.other_redis if self.other_redis is not None and worker % 2 else self.redis

    def barrier(self, redis: RegionalRedis, target: RevocationTarget, clock: Callable[[], float]) -> Steps:
        """Publish in this region and wait. Returns the identity of the Redis and how many workers expired."""
        network, loop = self.world.network, self.world.loop
        published: Published = yield network.call(self.name, self.name, lambda: redis.publish(target))
        if self.world.without == "region barrier":
            return redis.id, 0
        done = yield from _wait_by_clock(loop, published.done, expiry_wait_seconds(LEASE_SECONDS), clock)
        yield network.one_way(self.name, self.name)
        if done:
            return redis.id, 0
        missing = redis.unacknowledged(published.publication)
        redis.sweep({worker: published.workers[worker] for worker in missing})
        return redis.id, len(missing)


class Worker:
    """A worker: the product's guard, a cache of keys, and the thread that renews the lease.

    While `starved`, this thread does not run; requests do.
    """

    def __init__(self, region: Region, number: int) -> None:
        self.region = region
        self.world = region.world
        self.number = number
        self.clock = self.world.clock()
        self.starved = False
        self.cache: set[str] = set()
        region_lease = Lease(REGION_LEASE_SECONDS, self.clock)
        if self.world.without == "region lease":
            region_lease.confirm(1e12)
        self.guard = Guard(Lease(LEASE_SECONDS, self.clock), region_lease)
        if self.world.without != "evict":
            self.guard.subscribe(self._evict)
        self._redis: RegionalRedis | None = None
        self._rounds: deque[tuple[int, float]] = deque()
        """The round of each renewal at this Redis, with the time from which it counts."""
        self._heartbeat = 0
        self._stream_until = 0.0
        self._inbox: deque[Callable[[], None]] = deque()

    def start(self) -> None:
        self.world.loop.after(self.world.random.uniform(0, LEASE_SECONDS / RENEWALS_PER_LEASE), self._renew)

    def resume(self) -> None:
        self.starved = False
        while self._inbox:
            self._inbox.popleft()()

    def request(self, key: str, account_region: str) -> None:
        """Verify a key: from the cache, or in the database of its account."""
        if key in self.cache and self.guard.leases_valid():
            return
        token = self.guard.take_fill_token()
        target = RevocationTarget("acme", key)

        def finish(valid: bool) -> None:
            if not valid:
                return
            if self.world.without == "fill tokens":
                self.cache.add(key)
            else:
                self.guard.cache_result(token, target, lambda: self.cache.add(key))
            self.check(key)

        network, name = self.world.network, self.region.name

        def read() -> None:
            valid = key not in self.world.revoked_at
            network.send(account_region, name, lambda: finish(valid))

        network.send(name, account_region, read)

    def check(self, key: str) -> None:
        """Record a violation if a request that starts now would be accepted after the receipt of its key."""
        self.world.checks += 1
        if key in self.world.receipt_at and key in self.cache and self.guard.leases_valid():
            late = self.world.loop.now - self.world.receipt_at[key]
            self.world.violations.append(
                f"{self.region.name} worker {self.number} accepts {key} {late * 1000:.0f} ms after its receipt"
            )

    def _check_all(self) -> None:
        if self.guard.leases_valid():
            for key in sorted(self.cache & self.world.receipt_at.keys()):
                self.check(key)

    def _renew(self) -> None:
        if self.starved:
            self._inbox.append(self._renew)
            return
        loop, network, name = self.world.loop, self.world.network, self.region.name
        redis = self.region.redis_of(self.number)
        if redis is not self._redis:
            if self._redis is not None:
                self._redis.subscribers.pop(self.number, None)
            self._redis, self._rounds = redis, deque()
            redis.subscribers[self.number] = lambda event: self._deliver(redis, event)
        counted_from = self.clock()
        self._heartbeat += 1
        heartbeat = self._heartbeat

        def arrive() -> None:
            renewal = redis.renew(self.number, heartbeat)
            self._stream(lambda: self._confirm(redis, counted_from, renewal))

        loop.after(network.one_way(name, name), arrive)
        loop.after(LEASE_SECONDS / RENEWALS_PER_LEASE, self._renew)

    def _deliver(self, redis: RegionalRedis, event: Event) -> None:
        if self.world.event_loss and self.world.random.random() < self.world.event_loss:
            return
        self._stream(lambda: self._apply(redis, event))

    def _stream(self, action: Callable[[], None]) -> None:
        """Messages of one connection arrive in the order in which Redis sent them."""
        loop, name = self.world.loop, self.region.name
        # The thread waits for the interpreter lock: about 1 ms on a busy worker.
        seconds = self.world.network.one_way(name, name) + self.world.random.expovariate(1000)
        self._stream_until = max(loop.now + seconds, self._stream_until)
        loop.after(self._stream_until - loop.now, lambda: self._receive(action))

    def _receive(self, action: Callable[[], None]) -> None:
        if self.starved:
            self._inbox.append(action)
        else:
            action()

    def _apply(self, redis: RegionalRedis, event: Event) -> None:
        if redis is not self._redis:
            return
        if self.world.without == "epoch":
            self.guard.epoch = event.before
        self.guard.apply_event(event)
        name = self.region.name
        self.world.network.send(name, name, lambda: redis.acknowledge(str(event.ack_id), self.number))

    def _confirm(self, redis: RegionalRedis, counted_from: float, renewal: Renewal) -> None:
        if redis is not self._redis:
            return
        self._rounds.append((renewal.round, counted_from))
        were_valid = self.guard.leases_valid()
        if self.world.without == "epoch" and self.guard.lease.is_valid():
            self.guard.epoch = renewal.epoch
        self.guard.confirm_lease(counted_from, renewal.epoch)
        self.guard.home_to_write()
        if renewal.grant is not None:
            self._apply_grant(redis, renewal.grant)
        if not were_valid:
            self._check_all()

    def _apply_grant(self, redis: RegionalRedis, grant: Grant) -> None:
        granted = None
        while self._rounds and self._rounds[0][0] <= grant.round:
            granted = self._rounds.popleft()[1]
        if granted is not None:
            self.guard.home_written(redis.id)
            if self.world.without != "region lease":
                self.guard.apply_notice(granted, FallbackNotice(grant.notice, ""))

    def _evict(self, target: RevocationTarget) -> None:
        if target == EVERYTHING:
            self.cache.clear()
        else:
            self.cache.discard(target.key_id or "")


class Coordinator:
    """Connects a region to the others: writes its heartbeats, writes grants, and relays revocations.

    Several coordinators of one region do no harm: each heartbeat and each grant is correct on its own.
    """

    def __init__(self, region: Region, only: RegionalRedis | None = None) -> None:
        self.region = region
        self.world = region.world
        self._only = only
        """The Redis that it reaches. None: the one that the region uses."""
        self.clock = self.world.clock()
        self.paused: Future | None = None
        """Set while it is paused, and resolved when it resumes."""
        self._heartbeat = 0
        self._read: dict[str, int] = {}
        """The latest region notice that took effect, by Redis."""
        self._reading: set[tuple[str, int]] = set()

    def run(self) -> Steps:
        world, name, network = self.world, self.region.name, self.world.network
        database = world.system_database
        while self._only is None or self._only is self.region.other_redis:
            started = world.loop.now
            redis = self._redis
            round_before = yield network.call(name, name, lambda: redis.round)  # noqa: B023
            self._heartbeat += 1
            member, heartbeat, read = world.member(name, redis.id), self._heartbeat, self._read.get(redis.id, 0)
            reply = yield network.call(
                name,
                world.home,
                lambda: database.heartbeat(member, heartbeat, read, HEARTBEAT_SECONDS),  # noqa: B023
            )
            yield from self._pause()
            if reply is not None:
                self._grant(redis, round_before, reply.notice)
                for target in reply.overdue:
                    redis.publish(target)
                if reply.notice > read and (redis.id, reply.notice) not in self._reading:
                    self._reading.add((redis.id, reply.notice))
                    world.loop.spawn(self._apply_notice(redis, reply.notice))
            yield max(0.0, started + HEARTBEAT_SECONDS - world.loop.now)

    def relay(self, target: RevocationTarget) -> Future:
        """Carry out a revocation in this region, for a revoker elsewhere."""
        return self.world.loop.spawn(self._relay(target))

    def _relay(self, target: RevocationTarget) -> Steps:
        yield from self._pause()
        result = yield from self.region.barrier(self._redis, target, self.clock)
        yield from self._pause()
        return result

    def _grant(self, redis: RegionalRedis, round_before: int, notice: int) -> None:
        name = self.region.name

        def write() -> None:
            granted = redis.round if self.world.without == "round before heartbeat" else round_before
            redis.write_grant(redis.id, Grant(granted, notice))

        self.world.network.send(name, name, write)

    def _apply_notice(self, redis: RegionalRedis, notice: int) -> Steps:
        """Clear the caches of the region, then report the notice as read with the next heartbeat."""
        yield from self.region.barrier(redis, EVERYTHING, self.clock)
        self._read[redis.id] = max(notice, self._read.get(redis.id, 0))

    @property
    def _redis(self) -> RegionalRedis:
        return self._only or self.region.redis

    def _pause(self) -> Steps:
        if self.paused is not None:
            yield self.paused


@dataclass(frozen=True)
class SimulatedReceipt:
    """A receipt, with times in seconds."""

    key: str
    region: str
    at: float
    seconds: float
    """From the time at which the revoker learned of the commit, like `ms` of a receipt of the product."""
    request_seconds: float
    """With the intent and the commit."""
    by_notice: bool
    expired_regions: int
    expired_workers: int


def revoke(world: World, region: str, account_region: str, key: str, receipts: list[SimulatedReceipt]) -> Steps:
    """A revocation by a process in `region`. Adds its receipt; a revoker without the system database adds none."""
    network, database, loop = world.network, world.system_database, world.loop
    clock, target = world.clock(), RevocationTarget("acme", key)
    asked_at = loop.now
    intent = yield network.call(region, world.home, lambda: database.add_intent(target))
    if intent is None:
        return
    if world.without == "list after commit":
        listed = yield network.call(region, world.home, database.members)
        yield OLD_LIST_SECONDS
    committed = yield network.call(region, account_region, lambda: world.revoked_at.setdefault(key, loop.now))
    if committed is None:
        return
    started = loop.now
    reported: dict[Member, int] = {}
    changed = [Future()]

    def report(name: str, result: tuple[str, int] | None) -> None:
        if result is not None:
            reported[world.member(name, result[0])] = result[1]
            waiting, changed[0] = changed[0], Future()
            waiting.resolve(True)

    for name, other in world.regions.items():
        if name == region:
            loop.spawn(other.barrier(other.redis, target, clock)).then(partial(report, name))
        else:
            relayed = network.call(region, name, partial(other.coordinator.relay, target), RELAY_SECONDS)
            relayed.then(partial(report, name))
    if world.without != "list after commit":
        listed = yield network.call(region, world.home, database.members)
    if listed is None:
        return
    deadline = started + RELAY_SECONDS
    while listed - reported.keys() and loop.now < deadline:
        yield first_of(loop, changed[0], deadline - loop.now)
    by_notice, expired_regions = bool(listed - reported.keys()), 0
    if by_notice and world.without != "wait for regions":
        expired = yield from _by_notice(world, region, reported, clock)
        if expired is None:
            return
        expired_regions = len(expired)
    world.record_receipt(key)
    receipts.append(
        SimulatedReceipt(
            key=key,
            region=region,
            at=loop.now,
            seconds=loop.now - started,
            request_seconds=loop.now - asked_at,
            by_notice=by_notice,
            expired_regions=expired_regions,
            expired_workers=sum(reported.values()),
        )
    )
    network.send(region, world.home, lambda: database.remove_intent(intent))


def _by_notice(world: World, region: str, reported: Mapping[Member, int], clock: Callable[[], float]) -> Steps:
    """Wait until each listed Redis has reported, or its region has read the notice, or its region lease has expired.

    Returns those that expired; None if the system database cannot be reached.
    """
    network, database = world.network, world.system_database
    posted = yield network.call(region, world.home, database.post_notice)
    if posted is None:
        return None
    notice, rows = posted
    posted_at, behind = clock(), frozenset(rows)
    while True:
        missing = (behind & rows.keys()) - reported.keys()
        if not missing:
            return frozenset()
        if clock() - posted_at >= expiry_wait_seconds(REGION_LEASE_SECONDS):
            expired = {member: rows[member] for member in missing}
            network.send(region, world.home, partial(database.remove, expired))
            return missing
        yield POLL_SECONDS
        read = yield network.call(region, world.home, lambda: database.behind(notice))
        behind = behind if read is None else read


def _wait_by_clock(loop: Loop, future: Future, seconds: float, clock: Callable[[], float]) -> Steps:
    """Wait for a future, for `seconds` of a clock that may run fast or slow. Returns its value, or None."""
    end = clock() + seconds
    while not future.done and (left := end - clock()) > 0:
        yield first_of(loop, future, max(left, 1e-6))
    return future.value
