"""Errors while a request's body is read. `web/problems.py` maps both to responses."""

from __future__ import annotations


class BodyError(Exception):
    """Raised when the body can't be read completely.

    Not a subclass of OSError or ValueError: Werkzeug treats both as a disconnected client and hides the cause.
    """


class BrokenBody(BodyError):
    """Raised when the framing is not HTTP (RFC 9112, section 7.1), or when the body ends before it is complete."""


class SlowBody(BodyError):
    """Raised when the rest of the body does not arrive in time."""
