"""Replaying a counterexample that SPIN found, step by step, with the real guard, cache, threads and barrier.

A line is `actor number what`, as the models in proof/models print it. Each actor is led to where it has done that.
Steps that the real code joins with the next one, or does not take because a rule forbids them, are passed over: what
counts is whether a request that starts after the receipt is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from kataven.revocation import Guard, Scope
from kataven.revocation.scripts import ACKNOWLEDGE, PUBLISH, RENEW
from tests.revocation.simulation.actors import Actor, pause
from tests.revocation.simulation.redis_model import RedisModel
from tests.revocation.simulation.world import INSTANT, READING_SECONDS, Parts, Process, World

STEPS_AT_MOST = 200
"""More pauses than there are in any step of a model."""
SCRIPTS = {RENEW.sha: "renewed", ACKNOWLEDGE.sha: "acknowledged", PUBLISH.sha: "published"}
EFFECTS = {
    "current": (None, "looks"),
    "beat": ("asks", "wrote", "reads"),
    "post": (None, "posted", "read_list"),
    "elsewhere": (None, "read_homes"),
}
"""What has happened when the notices pause for the first, second and third time in a call."""


class Diary:
    """What has happened, by everybody; the replay asks for what is new since it looked last."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def note(self, what: str) -> None:
        self.entries.append(what)


class PausingLock(AbstractContextManager["PausingLock"]):
    """The guard's lock: a thread may be held up whenever it has let go of it. Only one thread runs at a time anyway."""

    def __enter__(self) -> PausingLock:
        return self

    def __exit__(self, *_: object) -> None:
        pause()


def observed(guard: type[Guard], diary: Diary) -> type[Guard]:
    """The same guard, which notes what it has done, and pauses there."""

    def noted(name: str, what: Callable[[Any], str]) -> Callable[..., Any]:
        method = getattr(guard, name)

        def call(self: Guard, *arguments: Any) -> Any:
            result = method(self, *arguments)
            diary.note(what(result))
            pause()
            return result

        return call

    def begin_fill(self: Guard) -> int:
        diary.note("looked_up")
        pause()
        ticket = guard.begin_fill(self)
        diary.note("took_token")
        pause()
        return ticket

    def init(self: Guard, *arguments: Any) -> None:
        guard.__init__(self, *arguments)
        self._lock: Any = PausingLock()

    names = {
        "_forget": "forgot",
        "confirmed": "confirmed",
        "heard": "heard",
        "moved": "moved",
        "noticed": "noticed",
        "holds_at": "checked_lease",
        "finish_fill": "kept",
    }
    methods = {name: noted(name, lambda _, what=what: what) for name, what in names.items()}
    return type(f"Observed{guard.__name__}", (guard,), {**methods, "begin_fill": begin_fill, "__init__": init})


class ObservedRedis:
    """A Redis whose scripts are noted."""

    def __init__(self, redis: RedisModel, diary: Diary) -> None:
        self._redis = redis
        self._diary = diary

    def execute(self, *command: Any) -> Any:
        reply = self._redis.execute(*command)
        if command[0] == "EVALSHA" and command[1] in SCRIPTS:
            self._diary.note(SCRIPTS[command[1]])
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)


class DatabaseOfKeys(set[Scope]):
    """The revoked keys; it is noted when a request reads them."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self._diary = diary

    def __contains__(self, key: object) -> bool:
        self._diary.note("read_database")
        return super().__contains__(key)


def _holds_for_ever(lease: Any) -> None:
    lease.until = math.inf
    lease.confirm = lambda asked_at: None


class Replay:
    """One worker and one revoker, led through a counterexample. `parts` are the classes, one of them without its rule.

    What a model leaves out holds here, too: in `lease` every home is written, in `fallback` the lease from Redis holds,
    and in the others the second lease.
    """

    def __init__(self, parts: type[Parts], model: str) -> None:
        self.diary = Diary()
        self.world = World(type("ObservedParts", (parts,), {"guard": observed(parts.guard, self.diary)}))
        self.world.revoked = DatabaseOfKeys(self.diary)
        redis: list[Any] = [ObservedRedis(r, self.diary) for r in (self.world.redis, self.world.other_redis)]
        self.redis = redis
        self.world.redis = redis[0]
        self.worker, self.command = Process(self.world), Process(self.world)
        for process in (self.worker, self.command):
            self._observe_notices(process)
        self._observe_memory()
        self.key = self.world.keys[0]
        self.bus = self.worker.start()
        self.reader = next(actor for actor in self.world.actors if actor is not self.bus)
        self.request: Actor | None = None
        self.revoker: Actor | None = None
        self._homes_are_written = model == "lease"
        self._identity = ""
        """Of the Redis that the worker's connection leads to."""
        self._has_spoiled = self._has_read_clock = self._waiting = False
        guard = self.worker.guard
        if model == "fallback":
            self.command.cut_off = True
            _holds_for_ever(guard.lease)
        else:
            _holds_for_ever(guard.reading)
            guard.notice = self.worker.reader._read = self.world.notices.notice

    def run(self, steps: Iterable[str]) -> None:
        for line in steps:
            who, number, what = line.split()
            getattr(self, f"_{who}")(int(number), what)
        for actor in (self.revoker, self.request):
            if actor is not None:
                self._lead(actor, "its end")
        self.world.probe()

    def _bus(self, number: int, what: str) -> None:
        if what == "connected":
            self.worker.redis = self.redis[number]
            self._identity = self.redis[number]._whoami("born")
            self._lead(self.bus, "renewed", until=lambda: self._linked)
        elif what == "disconnected":
            self.worker.cut()
            self._lead(self.bus, what, until=lambda: not self._linked)
        elif what == "set_home":
            self._lead(self.bus, what, until=lambda: self.worker.guard._renews_at == self._identity)
        elif what in ("receives", "reply", "spoiled"):
            self._has_spoiled = what == "spoiled"
        elif what == "forgot" and not self._has_spoiled:
            self._lead(self.bus, "memory_forgot")
        elif what in ("renewed", "forgot", "acknowledged", "heard"):
            self._lead(self.bus, what)
            if self._homes_are_written and what == "renewed":
                self.worker.guard.moved(self._identity)
        elif what in ("confirmed", "not_confirmed"):
            self._lead(self.bus, "confirmed")

    def _reader(self, _: int, what: str) -> None:
        if what == "asks" and self._waiting:
            self.world.now += READING_SECONDS / 4  # later than the wait started by more than the rates of clocks differ
        if what in ("asks", "wrote", "moved", "noticed", "reads"):
            self._lead(self.reader, what)
        elif what in ("write_fails", "write_reply_lost"):
            self.worker.cut_off_from_notices = True
            self.reader.step()
            self.worker.cut_off_from_notices = False

    def _request(self, _: int, what: str) -> None:
        if what == "started":
            self._has_read_clock = False
            if self.request is not None:
                self._lead(self.request, "its end")
            self.request = self.worker.request(self.key)
            self.request.step()
        elif what == "read_clock":
            self._has_read_clock = True
        elif what == "looked_up" and not self._has_read_clock:
            return  # a request without the rule looks up before it reads the clock: it has
        elif what == "accepted":
            self._lead(self._of_request, "its end")
        elif what in ("checked_lease", "looked_up", "took_token", "read_database", "kept"):
            self._lead(self._of_request, what)

    def _revoker(self, number: int, what: str) -> None:
        if what == "committed":
            self.command._pooled = self.redis[0]
            self.revoker = self.command.revoke(self.key)
        elif self.revoker is None:
            return
        elif what in ("published", "read_homes", "posted", "read_list"):
            self._lead(self.revoker, what)
        elif what == "wait_starts":
            self._waiting = True
            self._lead(self.revoker, "its end")
        elif what == "receipt":
            self._lead(self.revoker, "its end")
        elif what == "wait_ends":
            self._lead(self.revoker, "its end", passing_time=True)

    def _redis(self, _: int, what: str) -> None:
        self.worker.next_event_is_lost |= what == "loses_event"

    def _lease(self, _: int, what: str) -> None:
        self._expire(self.worker.guard.lease.until)

    def _reading(self, _: int, what: str) -> None:
        self._expire(self.worker.guard.reading.until)

    def _peer(self, _: int, what: str) -> None:
        """There is no other worker here, and so nothing to wait for."""

    def _expire(self, until: float) -> None:
        self.world.now = max(self.world.now, until - self.worker.clock() + self.world.now + INSTANT)

    @property
    def _of_request(self) -> Actor:
        assert self.request is not None
        return self.request

    @property
    def _linked(self) -> bool:
        return self.worker.link is not None and not self.worker.link.dead

    def _lead(
        self, actor: Actor, what: str, *, until: Callable[[], bool] | None = None, passing_time: bool = False
    ) -> None:
        """Let an actor go on until it has done `what`, or can't go on."""
        seen = len(self.diary.entries)
        for _ in range(STEPS_AT_MOST):
            if until() if until is not None else what in self.diary.entries[seen:]:
                return
            if actor.done:
                return
            if not actor.ready:
                if actor is self.revoker and not passing_time:
                    return
                if actor is not self.reader:
                    self.world.now = max(self.world.now, actor.wakes_at + INSTANT)
            self.world.now += INSTANT
            actor.step()

    def _observe_memory(self) -> None:
        """Note when the memory of keys has forgotten, which is before the guard's `_forget` returns."""
        memories, forget = self.worker.guard._memories, self.worker.verifier._known.forget

        def noted(scope: Scope) -> None:
            forget(scope)
            self.diary.note("memory_forgot")

        memories[memories.index(forget)] = noted

    def _observe_notices(self, process: Process) -> None:
        notices: Any = process.notices
        going: list[str | None] = []

        def step() -> None:
            if going and (what := going.pop(0)) is not None:
                self.diary.note(what)
            pause()

        def observe(name: str, effects: tuple[str | None, ...]) -> None:
            method = getattr(notices, name)

            def call(*arguments: Any) -> Any:
                going[:] = effects
                return method(*arguments)

            setattr(notices, name, call)

        notices._step = step
        for name, effects in EFFECTS.items():
            observe(name, effects)
