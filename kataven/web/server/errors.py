"""What can be wrong with a request's body on its way in. `web/problems.py` answers both."""

from __future__ import annotations


class BodyError(Exception):
    """The body can't be read to its end.

    Neither an OSError nor a ValueError: werkzeug takes both for a client that went away, and hides which one it was.
    """


class BrokenBody(BodyError):
    """Raised when the framing is not HTTP (RFC 9112, section 7.1), or when the body ends before it is complete."""


class SlowBody(BodyError):
    """Raised when the rest of the body does not arrive in time."""
