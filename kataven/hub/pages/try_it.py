"""`/docs` for signed-in users: fills in their account, and sends read requests to the API on their behalf.

The reference itself is the same for all callers and has no access to the session. Its script requests these paths. The
user's access token stays in this process: the API app of the Hub receives the request, verifies the token and applies
the account's limits as for every other request. See decision 104.
"""

from __future__ import annotations

import contextvars
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from flask import Response, current_app, request
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.key_search import KeyFilter, search
from kataven.account.key_status import KeyStatus
from kataven.hub.csrf_mask import mask
from kataven.hub.page_blueprint import MEMBERS, HubRequest, PageBlueprint
from kataven.hub.session_middleware import hub_services
from kataven.hub.try_tokens import TRY_SECONDS, is_valid_try_token, issue_try_token
from kataven.web import reference
from kataven.web.docs import tryable
from kataven.web.paths import WsgiApp

blueprint = PageBlueprint("try-it", __name__)

API_EXTENSION: Final = "kataven.hub.api"
"""The key in the extensions of the pages for `ApiApp`."""
MAX_SHOWN_CHARACTERS: Final = 200_000
"""Longer bodies are truncated, because the page shows them."""
PARAMETER: Final = "parameter."
"""Prefix of the form fields with the parameters of the operation."""
_NOT_SHOWN: Final = frozenset({"set-cookie", "content-length", "strict-transport-security", "x-content-type-options"})


@dataclass(frozen=True, slots=True)
class ApiApp:
    """The API app in the Hub's process: it already serves `/hub-api`."""

    document: Callable[[], dict[str, Any]]
    """Returns the customers' OpenAPI document."""
    wsgi: WsgiApp


@blueprint.page(reference.SESSION_PATH, MEMBERS)
def show_session(hub_request: HubRequest) -> AnyResponse:
    """What the script fills in: the account, and the name and the last characters of its newest active key."""
    with hub_request.reading() as session:
        key = next(iter(search(session, 1, None, KeyFilter(status=KeyStatus.ACTIVE)).rows), None)
        hint = None if key is None else {"name": key.name, "hint": key.hint}
    return _json(
        {
            "user": hub_request.actor.name,
            "account": hub_request.account.account,
            "key": hint,
            "csrf": mask(hub_request.session.csrf),
        }
    )


@blueprint.form(f"{reference.SESSION_PATH}/token", MEMBERS, while_typing=True)
def create_try_token(hub_request: HubRequest) -> AnyResponse:
    """Issue a token for `try_operation`. A script sends this form, so it is counted per session."""
    return _json({"token": issue_try_token(hub_request.session, time.time()), "seconds": TRY_SECONDS})


@blueprint.form("/docs/try", MEMBERS, while_typing=True)
def try_operation(hub_request: HubRequest) -> AnyResponse:
    """Send a read request as the user of this session. Any other operation is refused."""
    if not is_valid_try_token(request.form.get("token", ""), hub_request.session, time.time()):
        return _json({"expired": True, "message": "The token of this page has expired."}, HTTPStatus.FORBIDDEN)
    api: ApiApp = current_app.extensions[API_EXTENSION]
    given = {name[len(PARAMETER) :]: text for name, text in request.form.items() if name.startswith(PARAMETER)}
    try:
        operation = tryable.find(api.document(), request.form.get("operation", ""))
        target = operation.target(given)
    except tryable.UnknownOperation:
        return _json({"message": "This operation can't be tried here."}, HTTPStatus.FORBIDDEN)
    except tryable.InvalidParameter as invalid:
        return _json({"message": str(invalid)}, HTTPStatus.BAD_REQUEST)
    return _json(_sent(hub_request, api, target))


def _sent(hub_request: HubRequest, api: ApiApp, target: str) -> dict[str, Any]:
    """Send the request to the API app in this process, and describe the response."""
    assert hub_request.session.user is not None  # noqa: S101  MEMBERS requires a user
    builder = EnvironBuilder(
        target,
        base_url=hub_services().url,
        headers=[
            ("Authorization", f"Bearer {hub_request.session.user.access_token}"),
            ("X-Account-ID", hub_request.account.account),
            ("Accept", "application/json"),
            ("X-Request-ID", hub_request.request_id),
        ],
        environ_base=_client(request.environ),
    )
    try:
        environ = builder.get_environ()
    finally:
        builder.close()
    # In a copy of the context: the end of a request clears the log context and the client address of its thread.
    body, status, headers = contextvars.copy_context().run(run_wsgi_app, api.wsgi, environ, buffered=True)
    text = b"".join(body).decode()
    return {
        "request": f"GET {target}",
        "status": status,
        "headers": [[name, value] for name, value in headers if name.lower() not in _NOT_SHOWN],
        "body": text[:MAX_SHOWN_CHARACTERS],
        "truncated": len(text) > MAX_SHOWN_CHARACTERS,
    }


def _client(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The address of the browser, for the API's limits and its log."""
    return {name: environ[name] for name in ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR") if name in environ}


def _json(content: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A response for the script of a page of the Hub. Pages of other origins can neither read nor embed it."""
    response = Response(json.dumps(content), status, content_type="application/json")
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
