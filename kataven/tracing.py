"""W3C Trace Context: a request's place in the trace that its client began, or the beginning of one.

https://www.w3.org/TR/trace-context/, sections 3.2 (`traceparent`) and 4 (what to do with one that is not well-formed).
Nothing is recorded or sent anywhere: the ids are for the log, and for whom we ask in turn.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"

_WELL_FORMED = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True, slots=True)
class Trace:
    """`span_id` is ours: the parent of whatever we cause."""

    trace_id: str
    span_id: str
    flags: str = "00"

    @classmethod
    def begin(cls) -> Trace:
        """A trace of our own; nobody has asked for it to be sampled."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @classmethod
    def following(cls, header: str | None) -> Trace:
        """The next span in the trace of a `traceparent`; a new trace if there is none that can be read."""
        found = _WELL_FORMED.fullmatch(header or "")
        if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
            return cls.begin()
        if not int(found["trace_id"], 16) or not int(found["parent_id"], 16):
            return cls.begin()
        sampled = int(found["flags"], 16) & 1  # the only flag of version 00; others are not ours to pass on
        return cls(found["trace_id"], secrets.token_hex(8), f"{sampled:02x}")

    @property
    def header(self) -> str:
        """The `traceparent` for whom we ask."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


current: ContextVar[Trace | None] = ContextVar("kataven_trace", default=None)
"""The trace of the request under way on this thread."""
