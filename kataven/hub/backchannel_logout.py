"""`POST /auth/backchannel-logout`: the issuer reports that a user signed out, or was signed out, elsewhere.

OpenID Connect Back-Channel Logout 1.0. The response is sent when no worker accepts what the user had: neither tokens of
the API nor sessions of the Hub. Without a receipt, the response is 503, and the issuer should send the token again.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import orjson
from flask import Response, request

from kataven.hub.page_blueprint import HubRequest, PageBlueprint
from kataven.hub.session_middleware import hub_services
from kataven.hub.sessions import SessionsUnavailable
from kataven.identity.jwt import LEEWAY_SECONDS
from kataven.people.access import Cause
from kataven.people.receiver import NOT_APPLIED
from kataven.people.signed_events import EventRefused, Logout
from kataven.ratelimit.budget import AddressBudgetKind

blueprint = PageBlueprint("backchannel-logout", __name__)

PATH = "/auth/backchannel-logout"
_CAUSE = Cause("signed out at the identity provider", "issuer:backchannel-logout")
_REFUSED = "backchannel_logout_refused"

_log = logging.getLogger(__name__)


@blueprint.event(PATH)
def backchannel_logout(hub_request: HubRequest) -> Response:
    """Apply a logout token. 200 with a receipt in the log, 400 for an invalid token, 503 without a receipt."""
    hub_request.require(AddressBudgetKind.REFUSED)
    tokens = request.form.getlist("logout_token")
    try:
        if len(tokens) != 1:
            raise EventRefused("format", "Send one `logout_token`, as a form.")
        logout = hub_services().events.logout(tokens[0])
        return _apply(hub_request, logout)
    except EventRefused as refused:
        hub_request.record(AddressBudgetKind.REFUSED)
        hub_request.problem = _REFUSED
        _log.warning("logout token refused", extra={"rule": refused.rule})
        return _error(HTTPStatus.BAD_REQUEST, "invalid_request", refused.description)
    except (*NOT_APPLIED, SessionsUnavailable) as error:
        hub_request.problem = "unavailable"
        _log.warning("logout token not confirmed", extra={"error": type(error).__name__})
        response = _error(HTTPStatus.SERVICE_UNAVAILABLE, "temporarily_unavailable", "Send the token again.")
        response.headers["Retry-After"] = "1"
        return response


def _apply(hub_request: HubRequest, logout: Logout) -> Response:
    """Raises EventRefused for a token that was applied before, and the errors of `PeopleAccess`."""
    people, replays = hub_request.services.people, hub_services().replays
    with replays.claimed(people.issuer, logout.jti):
        if replays.was_applied(people.issuer, logout.jti):
            raise EventRefused("replay", "This logout token was received before.")
        sub = logout.sub or hub_services().sessions.subject_of(logout.sid or "")
        if sub is None:
            # A session at the issuer that no sign-in of the Hub belongs to: nothing of the Hub ends with it.
            _log.info("logout token of a session that is not known")
            return _confirmed()
        person, at = people.person(sub), logout.issued_at
        receipt = people.apply_event(person, "backchannel-logout", _CAUSE, signed_out=True, at=at)
        replays.remember(people.issuer, logout.jti, logout.expires_at + LEEWAY_SECONDS - hub_services().sessions.now())
    _log.info("sessions ended by the issuer", extra={"person": person.id, "receipt": receipt.as_json()})
    return _confirmed()


def _confirmed() -> Response:
    return Response(status=HTTPStatus.OK)


def _error(status: HTTPStatus, code: str, description: str) -> Response:
    """Section 2.8: the body of an error is that of an OAuth error."""
    body = orjson.dumps({"error": code, "error_description": description})
    return Response(body, status, content_type="application/json")
