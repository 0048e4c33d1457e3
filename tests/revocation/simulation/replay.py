"""Replays a counterexample of the model checker, step by step, with the real guard, caches, threads and barrier.

Each line of a trace is `actor number step`, as the models in proof/models print it. For each line, the replay runs the
actor until it has done that step. It skips a step if the real code combines it with the next one, or if a rule prevents
it. The result is whether a request that started after the receipt is accepted.

The names of actors and steps are those of the models: `bus` is the subscriber's thread, `reader` the poller's, `kept`
means that a result was cached, and `forgot` that the caches were evicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from kataven.revocation import Guard, RevocationTarget
from kataven.revocation.scripts import ACKNOWLEDGE, PUBLISH, RENEW
from tests.revocation.simulation.actors import Actor, pause
from tests.revocation.simulation.redis_model import RedisModel
from tests.revocation.simulation.simulation import INSTANT, READER_LEASE_SECONDS, Components, Process, Simulation

MAX_PAUSES_PER_STEP = 200
"""More pauses than the real code makes within any step of a model."""
CACHE_EVICTED = "cache_evicted"
"""Recorded by the replay only: the cache of principals has evicted, and `Guard._evict` has not returned yet."""

SCRIPT_STEPS = {RENEW.sha: "renewed", ACKNOWLEDGE.sha: "acknowledged", PUBLISH.sha: "published"}
GUARD_STEPS = {
    "_evict": "forgot",
    "confirm_lease": "confirmed",
    "apply_event": "heard",
    "home_written": "moved",
    "apply_notice": "noticed",
    "leases_valid_at": "checked_lease",
    "cache_result": "kept",
}
"""The step that is done when each method returns."""
FALLBACK_STEPS = {
    "read_state": (None, "looks"),
    "write_heartbeat": ("asks", "wrote", "reads"),
    "post_notice": (None, "posted", "read_list"),
    "readers_with_other_home": (None, "read_homes"),
}
"""The step that is done at the first, second and third pause within each method."""


class StepLog:
    """The steps that all actors have done, in order."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def record(self, step: str) -> None:
        self.steps.append(step)


class PausingLock(AbstractContextManager["PausingLock"]):
    """Replaces the guard's lock: pauses the actor after each release. Actors run one at a time, so it locks nothing."""

    def __enter__(self) -> PausingLock:
        return self

    def __exit__(self, *_: object) -> None:
        pause()


def observed(guard: type[Guard], log: StepLog) -> type[Guard]:
    """A subclass of `guard` that records each step and pauses after it."""

    def recorded(name: str, step: str) -> Callable[..., Any]:
        method = getattr(guard, name)

        def call(self: Guard, *arguments: Any) -> Any:
            result = method(self, *arguments)
            log.record(step)
            pause()
            return result

        return call

    def take_fill_token(self: Guard) -> int:
        log.record("looked_up")
        pause()
        fill_token = guard.take_fill_token(self)
        log.record("took_token")
        pause()
        return fill_token

    def init(self: Any, *arguments: Any) -> None:
        guard.__init__(self, *arguments)
        self._lock = PausingLock()

    methods = {name: recorded(name, step) for name, step in GUARD_STEPS.items()}
    return type(
        f"Observed{guard.__name__}", (guard,), {**methods, "take_fill_token": take_fill_token, "__init__": init}
    )


class ObservedRedis:
    """A Redis that records each script that it executes."""

    def __init__(self, redis: RedisModel, log: StepLog) -> None:
        self._redis = redis
        self._log = log

    def execute(self, *command: Any) -> Any:
        reply = self._redis.execute(*command)
        if command[0] == "EVALSHA" and command[1] in SCRIPT_STEPS:
            self._log.record(SCRIPT_STEPS[command[1]])
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)


class ObservedRevokedKeys(set[RevocationTarget]):
    """The revoked keys in the database. Records each read by a request."""

    def __init__(self, log: StepLog) -> None:
        super().__init__()
        self._log = log

    def __contains__(self, key: object) -> bool:
        self._log.record("read_database")
        return super().__contains__(key)


def _make_permanent(lease: Any) -> None:
    lease.valid_until = math.inf
    lease.confirm = lambda counted_from: None


class Replay:
    """Runs one worker and one revoker through a counterexample. `components` may contain one class without its rule.

    The replay fixes what the model leaves out: in `lease`, every home Redis is written; in `fallback`, the lease from
    Redis is always valid; in the other models, the reader lease is.
    """

    def __init__(self, components: type[Components], model: str) -> None:
        self.log = StepLog()
        guard_class = observed(components.guard, self.log)
        self.simulation = Simulation(type("ObservedComponents", (components,), {"guard": guard_class}))
        self.simulation.revoked = ObservedRevokedKeys(self.log)
        servers: list[Any] = [
            ObservedRedis(redis, self.log) for redis in (self.simulation.redis, self.simulation.other_redis)
        ]
        self.servers = servers
        self.simulation.redis = servers[0]
        self.worker, self.command = Process(self.simulation), Process(self.simulation)
        for process in (self.worker, self.command):
            self._observe_fallback(process)
        self._observe_cache()
        self.key = self.simulation.keys[0]
        self.subscriber = self.worker.start()
        self.poller = next(actor for actor in self.simulation.actors if actor is not self.subscriber)
        self.request: Actor | None = None
        self.revoker: Actor | None = None
        self._homes_are_written = model == "lease"
        self._redis_id = ""
        """The id of the Redis that the worker's connection leads to."""
        self._tokens_invalidated = self._clock_read = self._wait_started = False
        guard = self.worker.guard
        if model == "fallback":
            self.command.redis_cut_off = True
            _make_permanent(guard.lease)
        else:
            _make_permanent(guard.reader_lease)
            guard.notice = self.worker.reader._read = self.simulation.fallback.notice

    def run(self, trace: Iterable[str]) -> None:
        for line in trace:
            actor, number, step = line.split()
            getattr(self, f"_{actor}_step")(int(number), step)
        for unfinished in (self.revoker, self.request):
            if unfinished is not None:
                self._run_to_end(unfinished)
        self.simulation.check_revoked_keys()

    # One method per actor of the models

    def _bus_step(self, number: int, step: str) -> None:
        if step == "connected":
            self.worker.redis = self.servers[number]
            self._redis_id = self.servers[number]._whoami("born")
            self._run(self.subscriber, until=lambda: self._connected)
        elif step == "disconnected":
            self.worker.close_link()
            self._run(self.subscriber, until=lambda: not self._connected)
        elif step == "set_home":
            self._run(self.subscriber, until=lambda: self.worker.guard._home_redis == self._redis_id)
        elif step in ("receives", "reply", "spoiled"):
            self._tokens_invalidated = step == "spoiled"
        elif step == "forgot" and not self._tokens_invalidated:
            self._run_until_step(self.subscriber, CACHE_EVICTED)
        elif step in ("renewed", "forgot", "acknowledged", "heard"):
            self._run_until_step(self.subscriber, step)
            if self._homes_are_written and step == "renewed":
                self.worker.guard.home_written(self._redis_id)
        elif step in ("confirmed", "not_confirmed"):
            self._run_until_step(self.subscriber, "confirmed")

    def _reader_step(self, _: int, step: str) -> None:
        if step == "asks" and self._wait_started:
            # The heartbeat is later than the start of the wait by more than the clock tolerance.
            self.simulation.now += READER_LEASE_SECONDS / 4
        if step in ("asks", "wrote", "moved", "noticed", "reads"):
            self._run_until_step(self.poller, step)
        elif step in ("write_fails", "write_reply_lost"):
            self.worker.database_cut_off = True
            self.poller.step()
            self.worker.database_cut_off = False

    def _request_step(self, _: int, step: str) -> None:
        if step == "started":
            self._clock_read = False
            if self.request is not None:
                self._run_to_end(self.request)
            self.request = self.worker.request(self.key)
            self.request.step()
        elif step == "read_clock":
            self._clock_read = True
        elif step == "looked_up" and not self._clock_read:
            return  # without the rule, the lookup precedes the clock read, and the request has already done it
        elif step == "accepted":
            self._run_to_end(self._current_request)
        elif step in ("checked_lease", "looked_up", "took_token", "read_database", "kept"):
            self._run_until_step(self._current_request, step)

    def _revoker_step(self, _: int, step: str) -> None:
        if step == "committed":
            self.command._pooled = self.servers[0]
            self.revoker = self.command.revoke(self.key)
        elif self.revoker is None:
            return
        elif step in ("published", "read_homes", "posted", "read_list"):
            self._run_until_step(self.revoker, step)
        elif step == "wait_starts":
            self._wait_started = True
            self._run_to_end(self.revoker)
        elif step == "receipt":
            self._run_to_end(self.revoker)
        elif step == "wait_ends":
            self._run_to_end(self.revoker, advance_time=True)

    def _redis_step(self, _: int, step: str) -> None:
        self.worker.next_event_is_lost |= step == "loses_event"

    def _lease_step(self, _: int, step: str) -> None:
        self._expire(self.worker.guard.lease.valid_until)

    def _reading_step(self, _: int, step: str) -> None:
        self._expire(self.worker.guard.reader_lease.valid_until)

    def _peer_step(self, _: int, step: str) -> None:
        """The replay has no other worker, so the revoker waits for none."""

    def _expire(self, valid_until: float) -> None:
        """Advance the simulated time until a lease that is valid until this time of the worker's clock has expired."""
        remaining = valid_until - self.worker.clock()
        self.simulation.now = max(self.simulation.now, self.simulation.now + remaining + INSTANT)

    @property
    def _current_request(self) -> Actor:
        assert self.request is not None
        return self.request

    @property
    def _connected(self) -> bool:
        return self.worker.link is not None and not self.worker.link.dead

    # Running an actor

    def _run_until_step(self, actor: Actor, step: str) -> None:
        already_recorded = len(self.log.steps)
        self._run(actor, until=lambda: step in self.log.steps[already_recorded:])

    def _run_to_end(self, actor: Actor, *, advance_time: bool = False) -> None:
        self._run(actor, until=lambda: actor.done, advance_time=advance_time)

    def _run(self, actor: Actor, *, until: Callable[[], bool], advance_time: bool = False) -> None:
        """Run an actor until `until` returns True, or until the actor cannot continue.

        If the actor sleeps, the simulated time advances to its wake-up time, with two exceptions: the poller runs
        immediately, and the revoker remains asleep unless `advance_time` is set.
        """
        for _ in range(MAX_PAUSES_PER_STEP):
            if until() or actor.done:
                return
            if not actor.ready:
                if actor is self.revoker and not advance_time:
                    return
                if actor is not self.poller:
                    self.simulation.now = max(self.simulation.now, actor.wakes_at + INSTANT)
            self.simulation.now += INSTANT
            actor.step()

    # Recording the steps of one process

    def _observe_cache(self) -> None:
        """Record when the cache of principals has evicted, which is before `Guard._evict` returns."""
        caches, evict = self.worker.guard._caches, self.worker.verifier._principals.evict

        def recorded(target: RevocationTarget) -> None:
            evict(target)
            self.log.record(CACHE_EVICTED)

        caches[caches.index(evict)] = recorded

    def _observe_fallback(self, process: Process) -> None:
        fallback: Any = process.fallback
        remaining: list[str | None] = []

        def record_and_pause() -> None:
            if remaining and (step := remaining.pop(0)) is not None:
                self.log.record(step)
            pause()

        def observe(name: str, steps: tuple[str | None, ...]) -> None:
            method = getattr(fallback, name)

            def call(*arguments: Any) -> Any:
                remaining[:] = steps
                return method(*arguments)

            setattr(fallback, name, call)

        fallback._step = record_and_pause
        for name, steps in FALLBACK_STEPS.items():
            observe(name, steps)
