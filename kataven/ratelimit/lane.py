"""Lanes: credential lookups for an address that exhausted its budget, one at a time and a few per second.

A valid credential can come from the same address as the requests that exhausted the budget, so the address is throttled
and not blocked. Requests never wait in a lane: a request without a token is rejected immediately and holds no thread.

Retries have priority. Guessed credentials are all different and are not sent twice, but a client with a valid key sends
it again after `Retry-After`. Half of a lane's burst is reserved for retries.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock

PER_SECOND = 5
RESERVED = 5
"""The part of the burst that only retries can use."""
BURST = 2 * RESERVED
MAX_LANES = 10_000
MAX_REJECTED = 4_096


@dataclass(slots=True)
class _Lane:
    tokens: float
    filled_at: float
    busy: bool = False


class Lanes:
    """One lane per name, in this worker. Thread-safe."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        max_lanes: int = MAX_LANES,
        max_rejected: int = MAX_REJECTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._max_lanes = max_lanes
        self._max_rejected = max_rejected
        self._clock = clock
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._rejected: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = Lock()

    def enter(self, names: Sequence[str], credential: Hashable) -> bool:
        """Acquire the lanes of all `names`, or none. After True, the caller must call `leave`."""
        with self._lock:
            lanes = [self._lane(name) for name in names]
            is_retry = credential in self._rejected
            needed = 1 if is_retry else 1 + RESERVED
            if any(lane.busy or lane.tokens < needed for lane in lanes):
                self._add_rejected(credential)
                return False
            self._rejected.pop(credential, None)
            for lane in lanes:
                lane.busy = True
                lane.tokens -= 1
            return True

    def leave(self, names: Sequence[str]) -> None:
        """Release the lanes."""
        with self._lock:
            for name in names:
                if name in self._lanes:
                    self._lanes[name].busy = False

    def _lane(self, name: str) -> _Lane:
        now = self._clock()
        lane = self._lanes.get(name)
        if lane is None:
            self._evict()
            lane = self._lanes[name] = _Lane(BURST, now)
        self._lanes.move_to_end(name)
        lane.tokens = min(BURST, lane.tokens + (now - lane.filled_at) * self._per_second)
        lane.filled_at = now
        return lane

    def _evict(self) -> None:
        while len(self._lanes) >= self._max_lanes:
            # A busy lane is not evicted. There are at most as many of them as threads.
            oldest = next((name for name, lane in self._lanes.items() if not lane.busy), None)
            if oldest is None:
                return
            del self._lanes[oldest]

    def _add_rejected(self, credential: Hashable) -> None:
        self._rejected[credential] = None
        self._rejected.move_to_end(credential)
        if len(self._rejected) > self._max_rejected:
            self._rejected.popitem(last=False)
