"""`POST /v1/security-events`: receives security event tokens by push (RFC 8935), if `KATAVEN_EVENTS_AUDIENCE` is set.

The transmitter is authenticated by the signature of the SET. The response is 202 when no worker accepts what the event
ends. If that can't be confirmed, it is 503, and the transmitter sends the SET again.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import orjson
from flask import Response, request

from kataven.people.receiver import NOT_APPLIED, SecurityEventReceiver
from kataven.people.signed_events import EventRefused
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.web.access import PUBLIC
from kataven.web.operation import ApiBlueprint, Audience, ResponseSpec
from kataven.web.request_context import RequestContext

CONTENT_TYPE = "application/secevent+jwt"
MAX_BYTES = 8 * 1024

_log = logging.getLogger(__name__)


def blueprint_for(receiver: SecurityEventReceiver) -> ApiBlueprint:
    """The endpoint of a receiver."""
    blueprint = ApiBlueprint(
        "security-events", __name__, "event", "Security events of the identity provider.", Audience.OPERATORS
    )

    @blueprint.operation(
        "POST",
        "/v1/security-events",
        access=PUBLIC,
        summary="Receive a security event",
        response=ResponseSpec(202, "The event is applied: no worker accepts what it ends."),
    )
    def receive_security_event(context: RequestContext) -> Response:
        """Receives a security event token, sent as `application/secevent+jwt`."""
        context.require(AddressBudgetKind.REFUSED)
        try:
            receiver.receive(_token())
        except EventRefused as refused:
            context.record(AddressBudgetKind.REFUSED)
            context.problem = "security_event_refused"
            _log.warning("security event refused", extra={"rule": refused.rule})
            return _error(refused.set_error, refused.description)
        except NOT_APPLIED as error:
            context.problem = "unavailable"
            _log.warning("security event not confirmed", extra={"error": type(error).__name__})
            return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"})
        return Response(status=HTTPStatus.ACCEPTED)

    return blueprint


def _token() -> str:
    """Raises EventRefused. Longer bodies are not read."""
    if request.mimetype != CONTENT_TYPE:
        raise EventRefused("format", f"Send the SET with `Content-Type: {CONTENT_TYPE}`.")
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        raise EventRefused("format", f"The SET must have a `Content-Length` of at most {MAX_BYTES} bytes.")
    try:
        return request.get_data(cache=False).decode("ascii")
    except UnicodeDecodeError:
        raise EventRefused("format", "The SET is not ASCII.") from None


def _error(code: str, description: str) -> Response:
    body = orjson.dumps({"err": code, "description": description})
    headers = {"Content-Language": "en", "Cache-Control": "no-store"}
    return Response(body, HTTPStatus.BAD_REQUEST, headers, content_type="application/json")
