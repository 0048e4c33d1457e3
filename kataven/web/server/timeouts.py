"""How long the server waits for a client, and how much it keeps of what has arrived so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

HEAD_BYTES = 64 * 1024
"""The most that a request line and its headers may have together."""
BODY_BYTES = 64 * 1024
"""A body of at most this size occupies no thread before it has arrived."""
BUFFERED_BYTES = 32 * 1024 * 1024
"""The most that a worker keeps of requests that are still arriving."""
ANSWER_BYTES = 1024 * 1024
"""The most of an answer that is kept for a client that reads slowly, before the thread that writes it waits."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 2 * 1024 * 1024
"""What is still read, and dropped, of a connection that is closed (RFC 9112, section 9.6): closing a socket that holds
unread bytes resets it, and the client may never see the answer."""


REASONS = ("silent", "slow_head", "slow_body", "slow_reader", "crowded", "headers_too_large", "malformed")
"""Why the server closes a connection by itself; what the metric's label can be."""


@dataclass(frozen=True, slots=True)
class SocketTimeouts:
    """The limits of one worker."""

    head_seconds: float = 10.0
    body_seconds: float = 10.0
    bytes_per_second: int = 4096
    grace_seconds: float = 3.0
    """The floor of `bytes_per_second` counts from here on: a lost packet alone may cost a second or two."""
    connections: int = 1000


@dataclass(slots=True)
class BodyClock:
    """How long one body may still take."""

    timeouts: SocketTimeouts
    started: float
    received: int = 0
    total: float = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.started + self.timeouts.body_seconds

    @property
    def deadline(self) -> float:
        """When the next byte must be here, on the monotonic clock."""
        floor = self.started + self.timeouts.grace_seconds + self.received / self.timeouts.bytes_per_second
        return min(self.total, floor)


NEVER = math.inf
