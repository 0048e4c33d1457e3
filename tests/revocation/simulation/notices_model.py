"""The notices as a small Python object; tests/contracts/test_notices.py holds the system database to its answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from kataven.revocation.notices import Notice, NoticesUnreachable, Posted, Reader

_marks = itertools.count(1)


def _new_mark() -> str:
    return f"mark{next(_marks)}"


class NoticesModel:
    """What every process shares."""

    def __init__(self) -> None:
        self.notice = Notice(0, _new_mark())
        self.readers: dict[Reader, int] = {}
        self.read: dict[Reader, int] = {}


class NoticesOf:
    """The notices as one process reaches them. `step` is called between what is committed apart."""

    def __init__(self, shared: NoticesModel, reachable: Callable[[], bool], step: Callable[[], None]) -> None:
        self._shared = shared
        self._reachable = reachable
        self._step = step

    def current(self) -> Notice:
        self._go()
        notice = self._shared.notice
        self._go()
        return notice

    def beat(self, reader: Reader, read: Notice | None) -> Notice:
        self._go()
        shared = self._shared
        shared.readers[reader] = shared.readers.get(reader, 0) + 1
        if read is not None and read.mark == shared.notice.mark:
            shared.read[reader] = shared.notice.count
        return self.current()

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

    def _go(self) -> None:
        self._step()
        if not self._reachable():
            raise NoticesUnreachable
