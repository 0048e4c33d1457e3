"""Problem responses that the server sends without the application. They never repeat any part of the request."""

from __future__ import annotations

import uuid
from http import HTTPStatus

import orjson
from gunicorn.http import errors

from kataven.web.problems import PROBLEM_TYPES
from kataven.web.server.errors import BodyError, SlowBody

_CODES: tuple[tuple[type[Exception], str], ...] = (
    # The application causes these two, although they are subclasses of errors that clients cause.
    (errors.InvalidResponseHeader, "internal_error"),
    (errors.InvalidResponseHeaderName, "internal_error"),
    (errors.ConfigurationProblem, "internal_error"),
    (errors.LimitRequestLine, "uri_too_long"),
    (errors.LimitRequestHeaders, "headers_too_large"),
    (errors.ExpectationFailed, "expectation_failed"),
    (errors.UnsupportedTransferCoding, "unsupported_transfer_coding"),
    (SlowBody, "request_timeout"),
    (BodyError, "malformed_request"),
    (errors.ParseException, "malformed_request"),
)
_DETAILS = {
    "malformed_request": "The request is not well-formed HTTP. It was not processed.",
    "request_timeout": "The request did not arrive in time. It was not processed. Send it again.",
    "uri_too_long": "The request line is too long. Send at most 8,190 bytes.",
    "headers_too_large": "The headers are too large. Send at most 64 KiB, in at most 100 headers.",
    "expectation_failed": "The only supported expectation is 100-continue.",
    "unsupported_transfer_coding": "The only supported transfer coding is chunked.",
    "unavailable": "The server receives more requests than it can process. This one was not processed. Send it again.",
    "internal_error": "Something went wrong on our side. Contact us with the request ID.",
}
RETRY_AFTER = "Retry-After: 1\r\n"


def code_of(error: BaseException) -> str:
    """The problem code of an exception."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "internal_error")


def status_of(code: str) -> int:
    return PROBLEM_TYPES[code].status


def new_request_id() -> str:
    return uuid.uuid4().hex


def error_response(code: str, request_id: str) -> bytes:
    """A complete response, after which the server closes the connection."""
    kind = PROBLEM_TYPES[code]
    problem = {
        "type": f"/docs/errors#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": _DETAILS[code],
        "code": kind.code,
        "request_id": request_id,
    }
    body = orjson.dumps(problem)
    head = (
        f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n"
        f"Connection: close\r\nCache-Control: no-store\r\nX-Request-ID: {request_id}\r\n"
        f"{RETRY_AFTER if kind.status == 503 else ''}"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
