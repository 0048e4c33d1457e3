"""W3C Trace Context: continues the trace of the client's `traceparent` header, or starts a new one.

https://www.w3.org/TR/trace-context/, sections 3.2 (`traceparent`) and 4 (processing of malformed headers). The ids are
written to the log and sent to the services that a request calls. `telemetry` records spans with these ids, if enabled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from kataven.random_ids import new_id

HEADER = "traceparent"

_WELL_FORMED = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True, slots=True)
class Trace:
    """The current span. `span_id` is the parent id of the requests that it causes."""

    trace_id: str
    span_id: str
    flags: str = "00"

    @classmethod
    def new(cls) -> Trace:
        """A new trace, not sampled."""
        return cls(new_id(), new_id()[:16])

    @classmethod
    def from_header(cls, header: str | None) -> Trace:
        """The next span in the trace of a `traceparent`; a new trace if the header is missing or malformed."""
        parent = cls.parent(header)
        return cls.new() if parent is None else cls(parent.trace_id, new_id()[:16], parent.flags)

    @classmethod
    def parent(cls, header: str | None) -> Trace | None:
        """The caller's span; None if the header is missing or malformed."""
        found = None if header is None else _WELL_FORMED.fullmatch(header)
        if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
            return None
        if not int(found["trace_id"], 16) or not int(found["parent_id"], 16):
            return None
        sampled = int(found["flags"], 16) & 1  # the only flag of version 00; other flags must not be propagated
        return cls(found["trace_id"], found["parent_id"], f"{sampled:02x}")

    @property
    def header(self) -> str:
        """The `traceparent` header for outgoing requests."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


current: ContextVar[Trace | None] = ContextVar("kataven_trace", default=None)
"""The trace of the request on this thread."""

open_trace: Callable[[str | None], Trace] = Trace.from_header
"""Opens the trace of a request from its `traceparent` header. Replaced while spans are exported."""
