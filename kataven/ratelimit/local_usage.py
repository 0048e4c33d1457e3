"""What a worker admitted by itself and Redis has not heard of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kataven.ratelimit.policy import RateLimitKey

Buckets = Sequence[tuple[int, int]]
"""When the last request of each came, in microseconds on the worker's own clock, and how many there were."""


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """Of one scope."""

    limit_key: RateLimitKey
    windows: Mapping[int, Buckets]
    """By the length of the window in seconds."""

    def numbers(self, now: int) -> Iterator[int]:
        """As the Redis script takes them. Ages, since no two hosts' clocks agree."""
        yield len(self.windows)
        for seconds, buckets in self.windows.items():
            yield from (seconds, len(buckets))
            for came, count in buckets:
                yield from (max(0, now - came), count)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Told until Redis says that it has it. It never changes, and its number is how Redis knows that it has it."""

    number: str
    entries: tuple[UsageEntry, ...]
