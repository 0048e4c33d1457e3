"""Usage that a worker admitted locally and has not reported to Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kataven.ratelimit.policy import RateLimitKey

Buckets = Sequence[tuple[int, int]]
"""Per bucket: the time of its last request, in microseconds on the worker's clock, and the number of requests."""


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """The usage of one rate limit key."""

    limit_key: RateLimitKey
    windows: Mapping[int, Buckets]
    """By window length in seconds."""

    def numbers(self, now: int) -> Iterator[int]:
        """Arguments for the Redis script. Times are sent as ages, because the clocks of hosts differ."""
        yield len(self.windows)
        for seconds, buckets in self.windows.items():
            yield from (seconds, len(buckets))
            for came, count in buckets:
                yield from (max(0, now - came), count)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Sent until Redis confirms it. It never changes, and Redis recognizes a repeated report by its number."""

    number: str
    entries: tuple[UsageEntry, ...]
