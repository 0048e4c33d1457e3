"""The fallback channel as a Python object. tests/contracts/test_fallback_channel.py compares it with the real one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping
from uuid import uuid4

from kataven.revocation.fallback.channel import (
    INTENT_SECONDS,
    FallbackNotice,
    FallbackState,
    FallbackUnreachable,
    PollerHeartbeat,
    PollerId,
    PostedNotice,
)
from kataven.revocation.target import RevocationTarget

_marks = itertools.count(1)


def _new_mark() -> str:
    return f"mark{next(_marks)}"


class FallbackModel:
    """The state that all processes share."""

    def __init__(self) -> None:
        self.notice = FallbackNotice(0, _new_mark())
        self.readers: dict[PollerId, int] = {}
        self.read: dict[PollerId, int] = {}
        self.redis: dict[PollerId, str] = {}
        self.intents: dict[str, tuple[float, RevocationTarget]] = {}


class ProcessFallback:
    """The channel as one process accesses it. `step` is called between separate commits."""

    def __init__(
        self,
        shared: FallbackModel,
        reachable: Callable[[], bool],
        step: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._reachable = reachable
        self._step = step
        self._clock = clock

    def read_state(self, overdue_after_seconds: float) -> FallbackState:
        self._go()
        now = self._clock()
        unfinished = frozenset(
            target
            for begun_at, target in self._shared.intents.values()
            if overdue_after_seconds < now - begun_at <= INTENT_SECONDS
        )
        word = FallbackState(self._shared.notice, unfinished)
        self._go()
        return word

    def write_heartbeat(self, heartbeat: PollerHeartbeat) -> FallbackNotice:
        self._go()
        shared = self._shared
        if shared.readers.get(heartbeat.reader, 0) < heartbeat.count:
            shared.readers[heartbeat.reader] = heartbeat.count
            shared.redis[heartbeat.reader] = heartbeat.home_redis
            if heartbeat.read_notice is not None and heartbeat.read_notice.mark == shared.notice.mark:
                shared.read[heartbeat.reader] = shared.notice.count
        self._go()
        notice = shared.notice
        self._go()
        return notice

    def post_notice(self) -> PostedNotice:
        self._go()
        shared = self._shared
        shared.notice = FallbackNotice(shared.notice.count + 1, _new_mark())
        posted = shared.notice
        self._go()
        readers = dict(shared.readers)
        self._go()
        return PostedNotice(posted, readers)

    def readers_behind(self, notice: FallbackNotice) -> frozenset[PollerId]:
        self._go()
        shared = self._shared
        unread = frozenset(reader for reader in shared.readers if shared.read.get(reader, -1) < notice.count)
        self._go()
        return unread

    def readers_with_other_home(self, redis: str) -> frozenset[PollerId]:
        self._go()
        shared = self._shared
        away = frozenset(reader for reader in shared.readers if shared.redis.get(reader) not in ("", redis))
        self._go()
        return away

    def heartbeat_counts(self) -> dict[PollerId, int]:
        self._go()
        heartbeats = dict(self._shared.readers)
        self._go()
        return heartbeats

    def remove_readers(self, heartbeats: Mapping[PollerId, int]) -> None:
        self._go()
        for reader, count in heartbeats.items():
            if self._shared.readers.get(reader) == count:
                self.deregister(reader)

    def deregister(self, reader: PollerId) -> None:
        self._shared.readers.pop(reader, None)
        self._shared.read.pop(reader, None)
        self._shared.redis.pop(reader, None)

    def add_intent(self, target: RevocationTarget) -> str:
        self._go()
        intent = str(uuid4())
        self._shared.intents[intent] = (self._clock(), target)
        self._go()
        return intent

    def remove_intents(self, intents: Collection[str]) -> None:
        self._go()
        now = self._clock()
        for intent, (begun_at, _) in list(self._shared.intents.items()):
            if intent in intents or now - begun_at > INTENT_SECONDS:
                del self._shared.intents[intent]
        self._go()

    def _go(self) -> None:
        self._step()
        if not self._reachable():
            raise FallbackUnreachable
