"""What the server answers by itself, where no application was asked: fixed problems, with nothing of the request in
them."""

from __future__ import annotations

import uuid
from http import HTTPStatus

import orjson
from gunicorn.http import errors

from kataven.web.problems import KINDS
from kataven.web.server.errors import BodyError, SlowBody

_CODES: tuple[tuple[type[Exception], str], ...] = (
    (errors.InvalidResponseHeader, "internal_error"),  # the application's fault; both are subclasses of the client's
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
    "malformed_request": "The request is not well-formed HTTP, so nothing was done.",
    "request_timeout": "The request did not arrive in time, so nothing was done. Send it again.",
    "uri_too_long": "The request line is too long.",
    "headers_too_large": "The headers are too large.",
    "expectation_failed": "The only expectation that is met is 100-continue.",
    "unsupported_transfer_coding": "The only transfer coding that is taken is chunked.",
    "internal_error": "Something went wrong on our side. Tell us the request id, and we can look.",
}


def code_of(error: BaseException) -> str:
    """The problem that `error` is for the client."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "internal_error")


def status_of(code: str) -> int:
    return KINDS[code].status


def new_request_id() -> str:
    return uuid.uuid4().hex


def answer(code: str, request_id: str) -> bytes:
    """A whole answer, after which the connection is closed."""
    kind = KINDS[code]
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
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
