"""Finding the workers that died without a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

Worker = TypeVar("Worker")
Record = TypeVar("Record")


class Sweeper(Generic[Worker, Record]):
    """Finds the workers whose record is the same as it was some leases ago.

    It goes by this process's own clock, so that nobody's wall clock can take a living worker off a list. A worker that
    counts on a lease longer than `seconds` is not for it to judge.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due = -math.inf
        self._seen: Mapping[Worker, Record] = {}

    def due(self, now: float) -> bool:
        """Whether to look. `now` is a time before the records are read."""
        return now >= self._due

    def unchanged(self, records: Mapping[Worker, Record], now: float) -> dict[Worker, Record]:
        """The records that nobody has renewed since the last look.

        `now` is a time after they were read: between this look and the next lie at least `seconds`, even if this
        process is stopped in between.
        """
        unchanged = {worker: record for worker, record in records.items() if self._seen.get(worker) == record}
        self._seen = records
        self._due = now + self.seconds
        return unchanged
