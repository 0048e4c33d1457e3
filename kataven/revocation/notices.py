"""Where a revoker leaves word when it can't reach Redis: a place apart from it, that every worker reads.

A worker that can't read it can't hear such a word, so it counts on a second lease: it uses what it remembers only while
it has written, within `READING_SECONDS`, that it reads. That is as long as anything is remembered at all, so a place
that is away for less costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

READING_SECONDS = 30.0
"""How long a worker that wrote that it reads is waited for."""


class NoticesUnreachable(Exception):
    """The notices can be neither read nor written right now."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is posted: the how many-th, and a mark that no other one has, whatever was restored from a backup."""

    count: int
    mark: str


@dataclass(frozen=True, slots=True)
class Reader:
    """A worker that reads, as it wrote itself down. `home` is where its `pid` means something."""

    id: str
    home: str
    pid: int


@dataclass(frozen=True, slots=True)
class Posted:
    """A notice is up. `readers` are those who may count on a lease, with how often each has written."""

    notice: Notice
    readers: Mapping[Reader, int]


class Notices(Protocol):
    """The place itself. Each method takes effect before it returns, and raises NoticesUnreachable."""

    def current(self) -> Notice:
        """The latest notice."""

    def beat(self, reader: Reader, read: Notice | None) -> Notice:
        """Write that `reader` reads, and has read `read` if that is the latest still; *then* read the latest."""

    def post(self) -> Posted:
        """Put up a new notice, *then* read who reads."""

    def unread(self, notice: Notice) -> frozenset[Reader]:
        """Who has not written that they have read this notice, or a later one."""

    def beats(self) -> dict[Reader, int]:
        """Every reader, with how often it has written."""

    def remove(self, beats: Mapping[Reader, int]) -> None:
        """Take readers off, but for those that have written since."""

    def leave(self, reader: Reader) -> None:
        """Take oneself off, lease given up."""
