"""The simulation: processes, two Redis servers and one database. The caller advances it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import TimeoutError as RedisSilent

from kataven.identity.credential import ApiKeyCredential, Credential, JwtCredential
from kataven.identity.errors import Refused, RevokedCredential
from kataven.identity.people import Person, Presented, Restrictions
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.policy import Limits
from kataven.revocation import CachingVerifier, Guard, GuardedCache, Receipt, RevocationTarget, RevocationUnconfirmed
from kataven.revocation.barrier import Barrier
from kataven.revocation.coordination import CoordinationStore
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.fallback.poller import FallbackPoller
from kataven.revocation.lease import Lease
from kataven.revocation.subscriber import Subscriber
from kataven.system.directory import AccountRecord, Directory, PersonRead
from kataven.system.models import AccountStatus
from tests.revocation.simulation.actors import Actor, Ready, pause, pause_at_clock
from tests.revocation.simulation.fallback_model import FallbackModel, ProcessFallback
from tests.revocation.simulation.redis_model import RedisModel

LEASE_SECONDS = 1.0
READER_LEASE_SECONDS = 2.5
"""Shorter than in production, so that it expires within a search of forty steps."""
NAMESPACE = "simulation"
INSTANT = 1e-9


ALICE = Person("https://issuer.example", "alice").id
"""The user whose tokens cutoffs concern."""


class Components:
    """The classes under test. Tests replace one by a broken class to show that the search can fail."""

    lease: type[Lease] = Lease
    guard: type[Guard] = Guard
    verifier: type[CachingVerifier] = CachingVerifier
    worker: type[Subscriber] = Subscriber
    barrier: type[Barrier] = Barrier
    reader: type[FallbackPoller] = FallbackPoller
    directory: type[DirectoryModel]
    """Set below, after the class."""


class Simulation:
    """Simulated time, Redis, database and actors."""

    def __init__(self, components: type[Components] = Components) -> None:
        self.components = components
        self.now = 0.0
        self.ended = False
        self.redis = RedisModel(lambda: self.now)
        """The Redis that processes connect to."""
        self.other_redis = RedisModel(lambda: self.now)
        """A second server that accepts all commands, for example a former primary."""
        self.redis_up = True
        self.fallback = FallbackModel()
        self.database_up = True
        self.connections = 0
        """Incremented when all connections to Redis end."""
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self.keys_created = 0
        self.keys = [RevocationTarget(account, self._new_key()) for account in ("acme", "acme", "globex", "globex")]
        self.keys += [RevocationTarget(account, self._new_key(), ALICE) for account in ("acme", "globex")]
        """The valid keys, and the valid tokens of a user: a token is issued at the second that is its number."""
        self.revoked: set[RevocationTarget] = set()
        """In the accounts' databases: the keys that were revoked individually."""
        self.revoked_up_to = {"acme": 0, "globex": 0}
        """In the system database: all keys of an account up to this number are revoked."""
        self.cutoffs: dict[str | None, int] = {}
        """In the system database: the user's tokens up to this number are refused, in an account or in all (None)."""
        self.all_revoked: list[RevocationTarget] = []
        """All revoked keys, the latest last."""
        self.receipt_returned: set[RevocationTarget] = set()
        """The keys whose receipt was returned."""
        self.accepted_too_late: list[RevocationTarget] = []
        """The keys that were accepted in a request that started after their receipt."""

    def commit_revocation(self, target: RevocationTarget) -> list[RevocationTarget]:
        """Revoke the keys that `target` covers and return them. Each is replaced by a new key of its account."""
        ended = [key for key in self.keys if target.covers(key)]
        self.all_revoked += ended
        if target.subject is not None:
            self.cutoffs[target.account] = self.keys_created
        elif target.key_id is None:
            self.revoked_up_to[target.account or ""] = self.keys_created
        else:
            self.revoked.update(ended)
        self.keys = [replace(key, key_id=self._new_key()) if key in ended else key for key in self.keys]
        return ended

    def create_key(self, index: int) -> RevocationTarget:
        """Replace a valid key by a new one that no worker has seen."""
        self.keys[index] = replace(self.keys[index], key_id=self._new_key())
        return self.keys[index]

    def ready(self) -> list[Actor]:
        self.actors = [actor for actor in self.actors if not actor.done]
        return [actor for actor in self.actors if actor.ready]

    def settle(self) -> None:
        """Run all actors except requests until each waits for time to pass."""
        while actors := [actor for actor in self.ready() if not actor.is_request]:
            for actor in actors:
                actor.step()
            self.check_revoked_keys()

    def run_for(self, seconds: float, until: Ready = lambda: False) -> None:
        """Advance from one wake-up time of an actor to the next, for `seconds` or until `until` returns True."""
        end = self.now + seconds
        self.settle()
        while self.now < end and not until():
            self.now = min([end, *self._moments()])
            self.settle()

    def end_connections(self) -> None:
        self.connections += 1
        for process in self.processes:
            process.close_link()

    def check_revoked_keys(self) -> None:
        """Send a request to each running process with every key whose receipt was returned."""
        for key, process in itertools.product(self.receipt_returned, self.processes):
            if not process.paused and process.accepts(key):
                self.accepted_too_late.append(key)

    def has_exited(self, reader: PollerId) -> bool:
        return self.processes[reader.pid].dead

    def end(self) -> None:
        self.ended = True
        for actor in self.actors:
            actor.end()

    def _moments(self) -> list[float]:
        moments = [actor.wakes_at + INSTANT for actor in self.actors if actor.is_runnable and not actor.is_request]
        return [moment for moment in moments if moment > self.now]

    def _new_key(self) -> str:
        self.keys_created += 1
        return str(self.keys_created)


class Process:
    """One process that runs the real code. Its clock has its own origin and may run fast or slow."""

    def __init__(self, simulation: Simulation, clock_rate: float = 1.0) -> None:
        self.simulation = simulation
        self._clock_rate = clock_rate
        self._zero = 1_000.0 * len(simulation.processes)
        self.paused = False
        """All of its threads are stopped, as by SIGSTOP."""
        self.dead = False
        """It has ended without deregistering, and the other processes can detect that."""
        self.redis = simulation.redis
        """The Redis that its new connections lead to."""
        self._pooled = simulation.redis
        """The Redis that the revoker's idle connections lead to."""
        self.thread_starved = False
        """Its background threads are not scheduled; its requests are."""
        self.link: LinkModel | None = None
        self.redis_cut_off = False
        """It cannot reach Redis; other processes may."""
        self.database_cut_off = False
        self.next_reply_is_lost = False
        self.next_event_is_lost = False
        self.on_receipt: Callable[[Receipt], None] = lambda _: None
        components = simulation.components
        store = self.store = CoordinationStore(self._execute, NAMESPACE)
        fallback = ProcessFallback(simulation.fallback, lambda: self.reaches_database, pause, lambda: simulation.now)
        self.fallback = fallback
        self.barrier = components.barrier(
            store,
            LEASE_SECONDS,
            fallback,
            has_exited=simulation.has_exited,
            reader_lease_seconds=READER_LEASE_SECONDS,
            reconnect=self._reconnect,
            home_redis=lambda: self.guard.home_redis,
            clock=self.clock,
            sleep=self.sleep,
        )
        reading = components.lease(READER_LEASE_SECONDS, self.clock)
        self.guard = components.guard(components.lease(LEASE_SECONDS, self.clock), reading)
        self.guard.subscribe(lambda _: pause())  # the thread may be paused before it evicts
        database = DatabaseModel(simulation, self.guard)
        self.guard.subscribe(lambda _: pause())  # and between two caches
        self.verifier = components.verifier(database, self.guard, wall_clock=lambda: simulation.now)
        open_link: Any = self._open_link
        self.worker = components.worker(self.guard, open_link, NAMESPACE, self.barrier)
        self.worker.id = f"worker{len(simulation.processes)}"
        self.reader = components.reader(self.guard, fallback)
        self.reader.id = PollerId(self.worker.id, "simulation", len(simulation.processes))
        self.worker.process = self.reader.id
        simulation.processes.append(self)

    def clock(self) -> float:
        now = self._zero + self.simulation.now * self._clock_rate
        pause_at_clock()  # after the clock was read and before the value is used
        return now

    def sleep(self, seconds: float, woken: Ready = lambda: False) -> None:
        moment = self.clock() + seconds
        wakes_at = (moment - self._zero) / self._clock_rate
        pause(lambda: woken() or self.simulation.now > wakes_at, wakes_at=wakes_at)

    def start(self) -> Actor:
        """Become a worker with two threads. Returns the subscriber's thread."""
        stopping: Any = _Stopping(self)
        self._begin(
            Actor(partial(self.reader.run, stopping), runnable=lambda: not (self.paused or self.thread_starved))
        )
        work = partial(self.worker.run, stopping)
        return self._begin(Actor(work, runnable=lambda: not (self.paused or self.thread_starved)))

    def accepts(self, key: RevocationTarget) -> bool:
        assert key.account is not None
        assert key.key_id is not None
        credential = ApiKeyCredential if key.subject is None else JwtCredential
        try:
            self.verifier.verify(credential(key.key_id, key.account))
        except Refused:
            return False
        return True

    def request(self, key: RevocationTarget) -> Actor:
        """A request that starts now and runs step by step."""
        too_late = key in self.simulation.receipt_returned

        def work() -> None:
            if self.accepts(key) and too_late:
                self.simulation.accepted_too_late.append(key)

        return self._begin(Actor(work, runnable=lambda: not self.paused, is_request=True))

    def revoke(self, target: RevocationTarget) -> Actor:
        """Commit now. The receipt is returned step by step, unless the revocation is unconfirmed."""
        keys = self.simulation.commit_revocation(target)

        def work() -> None:
            try:
                receipt = self.barrier.revoke(target)
            except RevocationUnconfirmed:
                return
            self.simulation.receipt_returned.update(keys)
            self.on_receipt(receipt)

        return self._begin(Actor(work, runnable=lambda: not self.paused))

    def revoke_with_intent(self, target: RevocationTarget) -> Actor:
        """Intent, commit and revocation, step by step. The process may die at each step."""

        def work() -> None:
            intent = self.fallback.add_intent(target)
            keys = self.simulation.commit_revocation(target)
            pause()
            receipt = self.barrier.revoke(target)
            self.simulation.receipt_returned.update(keys)
            self.on_receipt(receipt)
            self.reader.remove_intent_later(intent)

        return self._begin(Actor(work, runnable=lambda: not (self.paused or self.dead)))

    @property
    def reaches_redis(self) -> bool:
        return self.simulation.redis_up and not self.redis_cut_off

    @property
    def reaches_database(self) -> bool:
        return self.simulation.database_up and not self.database_cut_off

    def move(self, redis: RedisModel, *, link_ends: bool) -> None:
        """New connections lead to `redis` from now on. Idle connections and an open link do not."""
        self.redis = redis
        if link_ends:
            self.close_link()

    def _reconnect(self) -> None:
        self._pooled = self.redis

    def close_link(self) -> None:
        """Close the worker's connection."""
        if self.link is not None:
            self.link.dead = True

    def _begin(self, actor: Actor) -> Actor:
        self.simulation.actors.append(actor)
        return actor

    def _open_link(self) -> LinkModel:
        self.link = LinkModel(self)
        return self.link

    def _execute(self, *command: Any) -> Any:
        """Execute a command on the revoker's pooled connections."""
        simulation = self.simulation
        pause()
        connection = simulation.connections
        if not self.reaches_redis:
            raise RedisDown
        redis = self._pooled
        if command[0] == "BLPOP":
            self.sleep(command[2], woken=lambda: bool(redis.execute("EXISTS", command[1])))
        if connection != simulation.connections:
            raise RedisDown
        reply = redis.execute(*command)
        pause()
        if self.next_reply_is_lost or connection != simulation.connections:
            self.next_reply_is_lost = False
            raise RedisSilent
        return reply


class DirectoryModel(Directory):
    """The real directory, with its caches, on a simulated system database. It caches the latest cutoffs."""

    def __init__(self, simulation: Simulation, guard: Guard) -> None:
        unused: Any = None
        super().__init__(unused, guard, clock=lambda: simulation.now)
        self._simulation = simulation

    def read(self, account: str, person: PersonRead | None = None) -> AccountRecord | None:
        pause()
        latest, everywhere = self._latest(account), self._latest(None)
        if person is not None:
            person.restrictions, person.everywhere = Restrictions(max(latest, everywhere)), everywhere
        pause()
        where: Any = None
        return AccountRecord(
            account, account, AccountStatus.ACTIVE, None, None, Limits(), where, self.journal, cutoff_mark=latest
        )

    journal: Mapping[str, int | None] = MappingProxyType({})

    def _read_person(self, account: str, presented: Presented) -> tuple[Restrictions, float]:
        pause()
        latest, everywhere = self._latest(account), self._latest(None)
        pause()
        return Restrictions(max(latest, everywhere)), everywhere

    def _latest(self, account: str | None) -> float:
        return self._simulation.cutoffs.get(account, -math.inf)


class DatabaseModel:
    """A verifier that reads the database, with pauses. It caches accounts behind the guard."""

    def __init__(self, simulation: Simulation, guard: Guard) -> None:
        self._simulation = simulation
        self._directory = simulation.components.directory(simulation, guard)
        self._revoked_up_to: GuardedCache[str, int] = GuardedCache(guard, ttl_seconds=30, capacity=10)

    def verify(self, credential: Credential) -> Principal:
        if isinstance(credential, JwtCredential):
            self._check_token(credential)
        account, key = credential.account, RevocationTarget(credential.account, credential.token)
        revoked_up_to = self._revoked_up_to.get(account, RevocationTarget(account), lambda: self._read(account))
        pause()
        revoked = key in self._simulation.revoked
        pause()
        if revoked or int(credential.token) <= revoked_up_to:
            raise RevokedCredential
        if isinstance(credential, JwtCredential):
            return Principal(CredentialKind.JWT, account, credential.token, "a user", person=ALICE)
        return Principal(CredentialKind.API_KEY, account, credential.token, "a key")

    def _check_token(self, credential: JwtCredential) -> None:
        presented = Presented(ALICE, float(credential.token))
        account = self._directory.account(credential.account, presented)
        assert account is not None
        refusal = account.restrictions.refusal(presented)
        if refusal is not None:
            raise refusal

    def _read(self, account: str) -> int:
        pause()
        revoked_up_to = self._simulation.revoked_up_to[account]
        pause()
        return revoked_up_to


Components.directory = DirectoryModel


class LinkModel:
    """The worker's connection: events and replies in the order in which Redis sent them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._simulation = process.simulation
        self.dead = False
        self.half_open = False
        self._redis = process.redis
        self._stream: deque[str | None] = deque()
        self._received: list[str] = []
        pause()
        if not process.reaches_redis:
            raise RedisDown
        self._redis.subscribe(self._deliver)

    def call(self, *command: Any) -> Any:
        pause()
        self._check()
        reply = self._redis.execute(*command)
        self._stream.append(None)  # marks the position of the reply among the events
        pause()
        self._check()
        while (message := self._stream.popleft()) is not None:
            self._received.append(message)
        return reply

    def check_primary(self) -> None:
        """Does nothing: in the simulation, processes move between servers at any step."""

    def drain(self) -> list[str]:
        received, self._received = self._received, []
        return received

    def wait(self, seconds: float) -> list[str]:
        if not self._received:
            self._process.sleep(seconds, woken=lambda: bool(self._stream) or self.dead)
            if self.dead:
                raise RedisDown
            self._received.extend(message for message in self._stream if message is not None)
            self._stream.clear()
        return self.drain()

    def __enter__(self) -> LinkModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.dead = True

    def _deliver(self, message: str) -> None:
        if self._process.next_event_is_lost:
            self._process.next_event_is_lost = False
        elif not (self.dead or self.half_open):
            self._stream.append(message)

    def _check(self) -> None:
        if self.dead or not self._process.reaches_redis:
            raise RedisDown
        if self.half_open:
            raise RedisSilent


class _Stopping:
    """The flag that stops a worker, and that it waits on between two attempts to connect."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def is_set(self) -> bool:
        return self._process.simulation.ended

    def wait(self, seconds: float) -> bool:
        self._process.sleep(seconds)
        return self.is_set()
