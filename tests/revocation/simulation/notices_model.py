"""The notices as a small Python object; tests/contracts/test_notices.py holds the system database to its answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping
from uuid import uuid4

from kataven.revocation.notices import INTENT_SECONDS, Beat, Notice, NoticesUnreachable, Posted, Reader, Word
from kataven.revocation.scope import Scope

_marks = itertools.count(1)


def _new_mark() -> str:
    return f"mark{next(_marks)}"


class NoticesModel:
    """What every process shares."""

    def __init__(self) -> None:
        self.notice = Notice(0, _new_mark())
        self.readers: dict[Reader, int] = {}
        self.read: dict[Reader, int] = {}
        self.redis: dict[Reader, str] = {}
        self.intents: dict[str, tuple[float, Scope]] = {}


class NoticesOf:
    """The notices as one process reaches them. `step` is called between what is committed apart."""

    def __init__(
        self,
        shared: NoticesModel,
        reachable: Callable[[], bool],
        step: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._reachable = reachable
        self._step = step
        self._clock = clock

    def current(self, patience_seconds: float) -> Word:
        self._go()
        now = self._clock()
        unfinished = frozenset(
            scope
            for begun_at, scope in self._shared.intents.values()
            if patience_seconds < now - begun_at <= INTENT_SECONDS
        )
        word = Word(self._shared.notice, unfinished)
        self._go()
        return word

    def beat(self, beat: Beat) -> Notice:
        self._go()
        shared = self._shared
        if shared.readers.get(beat.reader, 0) < beat.count:
            shared.readers[beat.reader] = beat.count
            shared.redis[beat.reader] = beat.redis
            if beat.read is not None and beat.read.mark == shared.notice.mark:
                shared.read[beat.reader] = shared.notice.count
        self._go()
        notice = shared.notice
        self._go()
        return notice

    def post(self) -> Posted:
        self._go()
        shared = self._shared
        shared.notice = Notice(shared.notice.count + 1, _new_mark())
        posted = shared.notice
        self._go()
        readers = dict(shared.readers)
        self._go()
        return Posted(posted, readers)

    def unread(self, notice: Notice) -> frozenset[Reader]:
        self._go()
        shared = self._shared
        unread = frozenset(reader for reader in shared.readers if shared.read.get(reader, -1) < notice.count)
        self._go()
        return unread

    def elsewhere(self, redis: str) -> frozenset[Reader]:
        self._go()
        shared = self._shared
        away = frozenset(reader for reader in shared.readers if shared.redis.get(reader) not in ("", redis))
        self._go()
        return away

    def beats(self) -> dict[Reader, int]:
        self._go()
        beats = dict(self._shared.readers)
        self._go()
        return beats

    def remove(self, beats: Mapping[Reader, int]) -> None:
        self._go()
        for reader, count in beats.items():
            if self._shared.readers.get(reader) == count:
                self.leave(reader)

    def leave(self, reader: Reader) -> None:
        self._shared.readers.pop(reader, None)
        self._shared.read.pop(reader, None)
        self._shared.redis.pop(reader, None)

    def intend(self, scope: Scope) -> str:
        self._go()
        intent = str(uuid4())
        self._shared.intents[intent] = (self._clock(), scope)
        self._go()
        return intent

    def complete(self, intents: Collection[str]) -> None:
        self._go()
        now = self._clock()
        for intent, (begun_at, _) in list(self._shared.intents.items()):
            if intent in intents or now - begun_at > INTENT_SECONDS:
                del self._shared.intents[intent]
        self._go()

    def _go(self) -> None:
        self._step()
        if not self._reachable():
            raise NoticesUnreachable
