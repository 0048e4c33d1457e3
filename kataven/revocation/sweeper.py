"""Detects workers that ended without removing themselves from a list."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

Worker = TypeVar("Worker")
Record = TypeVar("Record")


class Sweeper(Generic[Worker, Record]):
    """Finds the workers whose record has not changed for `seconds`.

    It uses this process's own clock, so that a wall clock cannot remove a running worker. Callers must ignore workers
    whose lease is longer than `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due = -math.inf
        self._seen: Mapping[Worker, Record] = {}

    def due(self, now: float) -> bool:
        """Whether `unchanged` should be called. `now` is a time before the records are read."""
        return now >= self._due

    def unchanged(self, records: Mapping[Worker, Record], now: float) -> dict[Worker, Record]:
        """The records that are the same as at the last call.

        `now` is a time after the records were read. At least `seconds` pass between two calls, even if this process is
        paused between reading the records and this call.
        """
        unchanged = {worker: record for worker, record in records.items() if self._seen.get(worker) == record}
        self._seen = records
        self._due = now + self.seconds
        return unchanged
