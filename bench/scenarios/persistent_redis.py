"""A Redis that is killed repeatedly and restarted without data, with its data, or with older data."""

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


class RestoredData(StrEnum):
    """The data of a restarted Redis."""

    NOTHING = "empty"
    ALL = "as it was"
    OLD = "as it was one restart earlier"


RESTORED_DATA = tuple(RestoredData)


class PersistentRedis:
    """A Redis with its data on disk. For use from the main thread."""

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
        """Kill it with SIGKILL. Writes of the last second may be lost."""
        with redis.Redis.from_url(self.url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        self._server.stop()

    def start_with(self, data: RestoredData) -> None:
        """Start again after `kill`, at the same address."""
        earlier = self._copy if data is RestoredData.OLD and self._copy.exists() else None
        kept = self._folder.with_name(f"{self._folder.name}-kept")
        _move_data(self._folder, kept)
        if earlier is not None:
            _copy_data(earlier, self._folder)
        elif data is not RestoredData.NOTHING:
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
        with suppress(NotADirectoryError):  # a folder since Redis 7, earlier a file
            shutil.copytree(data, target / data.name)
            continue
        shutil.copy(data, target / data.name)
