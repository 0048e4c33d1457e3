"""The server's limits for clients: deadlines, and how many bytes it buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

HEAD_BYTES = 64 * 1024
"""Maximum size of a request line and its headers together."""
BODY_BYTES = 64 * 1024
"""Maximum size of a body that is buffered before a thread processes the request."""
BUFFERED_BYTES = 32 * 1024 * 1024
"""Maximum total size of the incomplete requests that a worker buffers."""
RESPONSE_BYTES = 1024 * 1024
"""How much of a response is buffered for a client that reads slowly, before the writing thread blocks."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 2 * 1024 * 1024
"""How much input is read and discarded before a connection is closed (RFC 9112, section 9.6): closing a socket with
unread bytes resets the connection, and the client may never receive the response."""


REASONS = ("silent", "slow_head", "slow_body", "slow_reader", "crowded", "headers_too_large", "malformed", "overloaded")
"""Why the server closes a connection: the values of the metric's label `reason`."""


@dataclass(frozen=True, slots=True)
class SocketTimeouts:
    """The limits of one worker."""

    head_seconds: float = 10.0
    body_seconds: float = 10.0
    bytes_per_second: int = 4096
    grace_seconds: float = 3.0
    """`bytes_per_second` applies after this time: a single lost packet can cost a second or two."""
    connections: int = 1000


@dataclass(slots=True)
class BodyClock:
    """The deadline of one request body."""

    timeouts: SocketTimeouts
    started: float
    received: int = 0
    total: float = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.started + self.timeouts.body_seconds

    @property
    def deadline(self) -> float:
        """When the next byte must have arrived, on the monotonic clock."""
        floor = self.started + self.timeouts.grace_seconds + self.received / self.timeouts.bytes_per_second
        return min(self.total, floor)


NEVER = math.inf
