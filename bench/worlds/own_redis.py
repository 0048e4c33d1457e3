"""A Redis that is killed over and over, and comes back with nothing, with everything, or with what it knew long ago."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from kataven.dev.embedded.redis_server import EmbeddedRedis


class Memory(StrEnum):
    """What a Redis knows when it comes back."""

    NOTHING = "empty"
    ALL = "as it was"
    OLD = "as it was one restart earlier"


MEMORIES = tuple(Memory)


class OwnRedis:
    """A Redis with its data on disk. To be used from the main thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copy = folder.with_name(f"{folder.name}-copy")
        self._server = EmbeddedRedis(folder)
        self.url = ""

    @property
    def socket(self) -> Path:
        return Path(self.url.removeprefix("unix://").partition("?")[0])

    def start(self) -> None:
        self._server.start()
        self.url = self._server.url

    def kill(self) -> None:
        """As by the kernel, when memory is short. What it wrote in the last second may be lost, as in real life."""
        with redis.Redis.from_url(self.url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        self._server.stop()

    def come_back(self, memory: Memory) -> None:
        """Start again after `kill`, at the same address."""
        earlier = self._copy if memory is Memory.OLD and self._copy.exists() else None
        kept = self._folder.with_name(f"{self._folder.name}-kept")
        _move_data(self._folder, kept)
        if earlier is not None:
            _copy_data(earlier, self._folder)
        elif memory is not Memory.NOTHING:
            _copy_data(kept, self._folder)
        shutil.rmtree(self._copy, ignore_errors=True)
        kept.rename(self._copy)
        self.start()

    def stop(self) -> None:
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _move_data(source: Path, target: Path) -> None:
    target.mkdir()
    for data in source.glob("appendonly*"):
        data.rename(target / data.name)


def _copy_data(source: Path, target: Path) -> None:
    for data in source.glob("appendonly*"):
        with suppress(NotADirectoryError):  # a folder since Redis 7, a file before
            shutil.copytree(data, target / data.name)
            continue
        shutil.copy(data, target / data.name)
