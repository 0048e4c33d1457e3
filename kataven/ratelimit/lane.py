"""How an address is served whose budget is spent: one look-up at a time, and few a second.

A good credential may come from behind the same address as the junk that spent its budget, so the address is slowed down
and not shut out. Nobody waits in here: what does not get in is turned away at once, so that junk holds no thread.

Who comes back after being turned away goes first. Guesses are all different and never come back with the same
credential; a client with a good key does, once its `Retry-After` is over. Half of a lane is kept for those.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock

PER_SECOND = 5
RESERVED = 5
"""Of the burst, what only those may use who come back."""
BURST = 2 * RESERVED
MAX_LANES = 10_000
MAX_TURNED_AWAY = 4_096


@dataclass(slots=True)
class _Lane:
    tokens: float
    filled_at: float
    busy: bool = False


class Lanes:
    """One lane for each name, in this worker. Safe to use from several threads."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        max_lanes: int = MAX_LANES,
        max_turned_away: int = MAX_TURNED_AWAY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._max_lanes = max_lanes
        self._max_turned_away = max_turned_away
        self._clock = clock
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._turned_away: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = Lock()

    def enter(self, names: Sequence[str], credential: Hashable) -> bool:
        """Take the lanes of all `names`, or none. Whoever got in must `leave`."""
        with self._lock:
            lanes = [self._lane(name) for name in names]
            came_back = credential in self._turned_away
            needed = 1 if came_back else 1 + RESERVED
            if any(lane.busy or lane.tokens < needed for lane in lanes):
                self._note(credential)
                return False
            self._turned_away.pop(credential, None)
            for lane in lanes:
                lane.busy = True
                lane.tokens -= 1
            return True

    def leave(self, names: Sequence[str]) -> None:
        """Give the lanes back."""
        with self._lock:
            for name in names:
                if name in self._lanes:
                    self._lanes[name].busy = False

    def _lane(self, name: str) -> _Lane:
        now = self._clock()
        lane = self._lanes.get(name)
        if lane is None:
            self._make_room()
            lane = self._lanes[name] = _Lane(BURST, now)
        self._lanes.move_to_end(name)
        lane.tokens = min(BURST, lane.tokens + (now - lane.filled_at) * self._per_second)
        lane.filled_at = now
        return lane

    def _make_room(self) -> None:
        while len(self._lanes) >= self._max_lanes:
            # One that is in use stays: there are never more of those than threads.
            oldest = next((name for name, lane in self._lanes.items() if not lane.busy), None)
            if oldest is None:
                return
            del self._lanes[oldest]

    def _note(self, credential: Hashable) -> None:
        self._turned_away[credential] = None
        self._turned_away.move_to_end(credential)
        if len(self._turned_away) > self._max_turned_away:
            self._turned_away.popitem(last=False)
