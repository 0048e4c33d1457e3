"""What became of a request, and which step of the request pipeline decided."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from http import HTTPStatus


class CallOutcome(StrEnum):
    """What became of a request."""

    OK = "ok"
    INVALID = "invalid"
    """The request was accepted, and its content was not: 4xx."""
    REFUSED = "refused"
    """The credential was not accepted, or does not grant access: 401 and 403."""
    LIMITED = "limited"
    """A limit was exceeded: 429."""
    FAILED = "failed"
    """5xx."""


class RequestStep(IntEnum):
    """The steps of the request pipeline, in the order in which they run."""

    EDGE = 1
    CREDENTIAL = 2
    PRINCIPAL = 3
    ACCOUNT = 4
    ACCESS = 5
    LIMITS = 6
    HANDLER = 7
    RESPONSE = 8


def outcome_of(status: int) -> CallOutcome:
    """The outcome of a response with this status."""
    if status < HTTPStatus.BAD_REQUEST:
        return CallOutcome.OK
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return CallOutcome.REFUSED
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return CallOutcome.LIMITED
    return CallOutcome.FAILED if status >= HTTPStatus.INTERNAL_SERVER_ERROR else CallOutcome.INVALID
