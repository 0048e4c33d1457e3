"""A small world: some processes, a Redis or two, one database; whoever plays fate moves it on."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import TimeoutError as RedisSilent

from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import Refused, RevokedCredential
from kataven.identity.principal import CredentialKind, Principal
from kataven.revocation import CachingVerifier, Guard, GuardedCache, Receipt, RevocationTarget, RevocationUnconfirmed
from kataven.revocation.barrier import Barrier
from kataven.revocation.coordination import CoordinationStore
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.fallback.poller import FallbackPoller
from kataven.revocation.lease import Lease
from kataven.revocation.subscriber import Subscriber
from tests.revocation.simulation.actors import Actor, Ready, pause, pause_at_clock
from tests.revocation.simulation.fallback_model import NoticesModel, NoticesOf
from tests.revocation.simulation.redis_model import RedisModel

LEASE_SECONDS = 1.0
READER_LEASE_SECONDS = 2.5
"""Shorter than in life, so that it runs out in a search of forty steps."""
NAMESPACE = "world"
INSTANT = 1e-9


class Parts:
    """What a world is built from. To show that the search can fail, a part is replaced by a broken one."""

    lease: type[Lease] = Lease
    guard: type[Guard] = Guard
    verifier: type[CachingVerifier] = CachingVerifier
    worker: type[Subscriber] = Subscriber
    barrier: type[Barrier] = Barrier
    reader: type[FallbackPoller] = FallbackPoller


class World:
    """Time, Redis, the database, and all that is going on."""

    def __init__(self, parts: type[Parts] = Parts) -> None:
        self.parts = parts
        self.now = 0.0
        self.ended = False
        self.redis = RedisModel(lambda: self.now)
        """The Redis that everybody means."""
        self.other_redis = RedisModel(lambda: self.now)
        """One beside it, which takes whatever it is sent: a primary that was demoted and does not know, say."""
        self.redis_up = True
        self.fallback = NoticesModel()
        self.notices_up = True
        self.connections = 0
        """Counts up whenever all connections to Redis end."""
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self.keys_minted = 0
        self.keys = [RevocationTarget(account, self._new_key()) for account in ("acme", "acme", "globex", "globex")]
        """The keys that are good."""
        self.revoked: set[RevocationTarget] = set()
        """In the accounts' databases: the keys that were revoked one by one."""
        self.ended_up_to = {"acme": 0, "globex": 0}
        """In the system database: an account's keys up to this number were ended all at once."""
        self.keys_ended: list[RevocationTarget] = []
        """All that were ended, one way or the other, the latest last."""
        self.answered: set[RevocationTarget] = set()
        """The keys whose receipt is out."""
        self.accepted_too_late: list[RevocationTarget] = []
        """The keys that a request was accepted with which started when their receipt was out."""

    def commit_revocation(self, target: RevocationTarget) -> list[RevocationTarget]:
        """The keys that this ends. Each account is given new ones in their place."""
        ended = [key for key in self.keys if target.covers(key)]
        self.keys_ended += ended
        if target.key_id is None:
            self.ended_up_to[target.account or ""] = self.keys_minted
        else:
            self.revoked.update(ended)
        self.keys = [RevocationTarget(key.account, self._new_key()) if key in ended else key for key in self.keys]
        return ended

    def mint(self, place: int) -> RevocationTarget:
        """A new key in the place of one that is good; nobody has seen it yet."""
        self.keys[place] = RevocationTarget(self.keys[place].account, self._new_key())
        return self.keys[place]

    def ready(self) -> list[Actor]:
        self.actors = [actor for actor in self.actors if not actor.done]
        return [actor for actor in self.actors if actor.ready]

    def settle(self) -> None:
        """Let everybody but requests go on until they wait for something that only time brings."""
        while actors := [actor for actor in self.ready() if not actor.is_request]:
            for actor in actors:
                actor.step()
            self.probe()

    def go_on(self, seconds: float, until: Ready = lambda: False) -> None:
        """Let time pass from one moment at which somebody wakes up to the next, for `seconds` or `until` is true."""
        end = self.now + seconds
        self.settle()
        while self.now < end and not until():
            self.now = min([end, *self._moments()])
            self.settle()

    def end_connections(self) -> None:
        self.connections += 1
        for process in self.processes:
            process.cut()

    def probe(self) -> None:
        """Show what was revoked, receipt out, to every process that runs: each time a request that starts now."""
        for key, process in itertools.product(self.answered, self.processes):
            if not process.frozen and process.accepts(key):
                self.accepted_too_late.append(key)

    def has_exited(self, reader: PollerId) -> bool:
        return self.processes[reader.pid].dead

    def end(self) -> None:
        self.ended = True
        for actor in self.actors:
            actor.end()

    def _moments(self) -> list[float]:
        moments = [actor.wakes_at + INSTANT for actor in self.actors if actor.able and not actor.is_request]
        return [moment for moment in moments if moment > self.now]

    def _new_key(self) -> str:
        self.keys_minted += 1
        return str(self.keys_minted)


class Process:
    """One process with the real code in it. Its clock has its own zero and may run fast or slow."""

    def __init__(self, world: World, clock_rate: float = 1.0) -> None:
        self.world = world
        self._clock_rate = clock_rate
        self._zero = 1_000.0 * len(world.processes)
        self.frozen = False
        """Stopped as a whole, as by SIGSTOP."""
        self.dead = False
        """Ended without a word, which is seen from where the others are."""
        self.redis = world.redis
        """Where its connections lead that are made from now on."""
        self._pooled = world.redis
        """Where the revoker's idle connections lead."""
        self.starved = False
        """Its worker's thread is not scheduled; its requests are."""
        self.link: LinkModel | None = None
        self.cut_off = False
        """It can't reach Redis, whoever else can."""
        self.cut_off_from_notices = False
        self.next_reply_is_lost = False
        self.next_event_is_lost = False
        self.on_receipt: Callable[[Receipt], None] = lambda _: None
        parts = world.parts
        board = CoordinationStore(self._execute, NAMESPACE)
        fallback = NoticesOf(world.fallback, lambda: self.reaches_notices, pause, lambda: world.now)
        self.fallback = fallback
        self.barrier = parts.barrier(
            board,
            LEASE_SECONDS,
            fallback,
            has_exited=world.has_exited,
            reader_lease_seconds=READER_LEASE_SECONDS,
            reconnect=self._reconnect,
            home_redis=lambda: self.guard.home_redis,
            clock=self.clock,
            sleep=self.sleep,
        )
        reading = parts.lease(READER_LEASE_SECONDS, self.clock)
        self.guard = parts.guard(parts.lease(LEASE_SECONDS, self.clock), reading)
        self.guard.subscribe(lambda _: pause())  # the thread may be held up before it forgets
        database = DatabaseModel(world, self.guard)
        self.guard.subscribe(lambda _: pause())  # and between two memories
        self.verifier = parts.verifier(database, self.guard, wall_clock=lambda: world.now)
        open_link: Any = self._open_link
        self.worker = parts.worker(self.guard, open_link, NAMESPACE, self.barrier)
        self.worker.id = f"worker{len(world.processes)}"
        self.reader = parts.reader(self.guard, fallback)
        self.reader.id = PollerId(self.worker.id, "the world", len(world.processes))
        world.processes.append(self)

    def clock(self) -> float:
        now = self._zero + self.world.now * self._clock_rate
        pause_at_clock()  # after it was read and before anything is done with it
        return now

    def sleep(self, seconds: float, woken: Ready = lambda: False) -> None:
        moment = self.clock() + seconds
        wakes_at = (moment - self._zero) / self._clock_rate
        pause(lambda: woken() or self.world.now > wakes_at, wakes_at=wakes_at)

    def start(self) -> Actor:
        """Become a worker, with two threads. Returns the one that hears of events."""
        stopping: Any = _Stopping(self)
        self._begin(Actor(partial(self.reader.run, stopping), may_go_on=lambda: not (self.frozen or self.starved)))
        work = partial(self.worker.run, stopping)
        return self._begin(Actor(work, may_go_on=lambda: not (self.frozen or self.starved)))

    def accepts(self, key: RevocationTarget) -> bool:
        assert key.account is not None
        assert key.key_id is not None
        try:
            self.verifier.verify(ApiKeyCredential(key.key_id, key.account))
        except Refused:
            return False
        return True

    def request(self, key: RevocationTarget) -> Actor:
        """A request that begins now and goes on by steps."""
        too_late = key in self.world.answered

        def work() -> None:
            if self.accepts(key) and too_late:
                self.world.accepted_too_late.append(key)

        return self._begin(Actor(work, may_go_on=lambda: not self.frozen, is_request=True))

    def revoke(self, target: RevocationTarget) -> Actor:
        """Commit now; the receipt comes by steps, unless nobody can be told."""
        keys = self.world.commit_revocation(target)

        def work() -> None:
            try:
                receipt = self.barrier.revoke(target)
            except RevocationUnconfirmed:
                return
            self.world.answered.update(keys)
            self.on_receipt(receipt)

        return self._begin(Actor(work, may_go_on=lambda: not self.frozen))

    def revoke_announced(self, target: RevocationTarget) -> Actor:
        """The whole of it, by steps: write down what is about to end, commit, revoke. It may die at each."""

        def work() -> None:
            intent = self.fallback.add_intent(target)
            keys = self.world.commit_revocation(target)
            pause()
            receipt = self.barrier.revoke(target)
            self.world.answered.update(keys)
            self.on_receipt(receipt)
            self.reader.remove_intent_later(intent)

        return self._begin(Actor(work, may_go_on=lambda: not (self.frozen or self.dead)))

    @property
    def reaches_redis(self) -> bool:
        return self.world.redis_up and not self.cut_off

    @property
    def reaches_notices(self) -> bool:
        return self.world.notices_up and not self.cut_off_from_notices

    def move(self, redis: RedisModel, *, link_ends: bool) -> None:
        """Its connections lead to another Redis from now on. Those that lie idle don't, nor does a link that stays."""
        self.redis = redis
        if link_ends:
            self.cut()

    def _reconnect(self) -> None:
        self._pooled = self.redis

    def cut(self) -> None:
        """The worker's connection ends."""
        if self.link is not None:
            self.link.dead = True

    def _begin(self, actor: Actor) -> Actor:
        self.world.actors.append(actor)
        return actor

    def _open_link(self) -> LinkModel:
        self.link = LinkModel(self)
        return self.link

    def _execute(self, *command: Any) -> Any:
        """The revoker's connections."""
        world = self.world
        pause()
        connection = world.connections
        if not self.reaches_redis:
            raise RedisDown
        redis = self._pooled
        if command[0] == "BLPOP":
            self.sleep(command[2], woken=lambda: bool(redis.execute("EXISTS", command[1])))
        if connection != world.connections:
            raise RedisDown
        reply = redis.execute(*command)
        pause()
        if self.next_reply_is_lost or connection != world.connections:
            self.next_reply_is_lost = False
            raise RedisSilent
        return reply


class DatabaseModel:
    """A Verifier that reads the truth, and takes its time before and after; accounts it remembers, behind the guard."""

    def __init__(self, world: World, guard: Guard) -> None:
        self._world = world
        self._ended_up_to: GuardedCache[str, int] = GuardedCache(guard, ttl_seconds=30, capacity=10)

    def verify(self, credential: Credential) -> Principal:
        account, key = credential.account, RevocationTarget(credential.account, credential.token)
        ended_up_to = self._ended_up_to.get(account, RevocationTarget(account), lambda: self._read(account))
        pause()
        revoked = key in self._world.revoked
        pause()
        if revoked or int(credential.token) <= ended_up_to:
            raise RevokedCredential
        return Principal(CredentialKind.API_KEY, account, credential.token, "a key")

    def _read(self, account: str) -> int:
        pause()
        ended_up_to = self._world.ended_up_to[account]
        pause()
        return ended_up_to


class LinkModel:
    """The worker's connection: events and replies in the order in which Redis spoke."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self.dead = False
        self.half_open = False
        self._redis = process.redis
        self._stream: deque[str | None] = deque()
        self._heard: list[str] = []
        pause()
        if not process.reaches_redis:
            raise RedisDown
        self._redis.subscribe(self._deliver)

    def call(self, *command: Any) -> Any:
        pause()
        self._check()
        reply = self._redis.execute(*command)
        self._stream.append(None)  # the reply's place among the events
        pause()
        self._check()
        while (message := self._stream.popleft()) is not None:
            self._heard.append(message)
        return reply

    def drain(self) -> list[str]:
        apply_event, self._heard = self._heard, []
        return apply_event

    def wait(self, seconds: float) -> list[str]:
        if not self._heard:
            self._process.sleep(seconds, woken=lambda: bool(self._stream) or self.dead)
            if self.dead:
                raise RedisDown
            self._heard.extend(message for message in self._stream if message is not None)
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
    """The flag that ends a worker; between two attempts to connect, what it waits with."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def is_set(self) -> bool:
        return self._process.world.ended

    def wait(self, seconds: float) -> bool:
        self._process.sleep(seconds)
        return self.is_set()
