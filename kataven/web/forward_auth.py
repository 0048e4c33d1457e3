"""`/v1/verify`: a gateway sends the credential of each request that it receives, and acts on the status (forward-auth).

Gateways understand few statuses, so this operation returns 200, 401, 403, 429 and 503 only. nginx understands three of
them: with `?mode=nginx`, the others are sent as 403, with the real status in `X-Kataven-Status`.

Two kinds of input must not be confused. The query string is written by the operator of the gateway and is trusted. The
headers, the method and the path behind the prefix are those of the gateway's client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import quote

from flask import Flask, Request, Response, g
from pydantic import BeforeValidator, Field

from kataven.identity import scopes
from kataven.identity.credential import OPERATORS_ACCOUNT, Credential, parse_credential
from kataven.identity.errors import AccountMismatch, MissingCredential
from kataven.identity.principal import CredentialKind, Principal
from kataven.identity.token import ACCOUNT_PATTERN
from kataven.validation import Shaped
from kataven.web.misplaced_keys import misplaced_key
from kataven.web.paths import REQUESTED, VERIFY
from kataven.web.problems import FieldError, GatewayMisconfigured, InvalidRequest
from kataven.web.request_context import GatewayRequest, RequestContext
from kataven.web.schema import Query, read_query

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

PATH = VERIFY
ENVOY_PATH = f"{PATH}/envoy"
"""Envoy appends the path and the query string of its client's request to this path."""
MAX_COST = 100
MAX_CONFIGURATIONS = 256
"""How many query strings of gateways are kept parsed. Each gateway sends the same one with every request."""
WITHOUT_PARAMETERS = GatewayRequest()
NGINX = "nginx"
NGINX_STATUSES = frozenset({200, 401, 403})
"""All statuses that nginx's auth_request accepts. It turns every other one into 500."""
CREDENTIAL_HEADERS = ("Authorization", "X-API-Key", "API-Key", "X-Auth-Token", "X-Access-Token")
"""The headers that a credential can be read from. A list, so that no configuration reads credentials from a header
that other software logs, caches or overwrites, such as `Cookie` or `X-Request-ID`."""

FULL_ACCESS = "*"
"""`X-Kataven-Scopes` of an API key without scopes."""

_AUTHORIZATION = CREDENTIAL_HEADERS[0]
_SCOPE_PATTERN = f"^{scopes.PATTERN}$"
_IN_ENVIRON = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in CREDENTIAL_HEADERS}
_BY_LOWER_NAME = {name.lower(): name for name in CREDENTIAL_HEADERS}
_CLIENTS_CONDITIONS = (
    *("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"),
    *("HTTP_IF_RANGE", "HTTP_RANGE"),
)


def _header_name(given: object) -> object:
    return _BY_LOWER_NAME.get(given.lower(), given) if isinstance(given, str) else given


class VerifyQuery(Query):
    """What the gateway requests. Its operator writes it, and its clients can't change it."""

    cost: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_COST,
            description="How many units this request takes of each limit of the account and the key. 0 takes nothing, "
            "and is never refused by a limit.",
        ),
    ] = 1
    account: Annotated[
        Annotated[str, Shaped(f"^{ACCOUNT_PATTERN}$", "must be the name of an account, such as acme")] | None,
        Field(
            description="The only account whose credentials are accepted; others get 403. Also the account of a JWT "
            "that comes without `X-Account-ID`.",
        ),
    ] = None
    credential_header: Annotated[
        Literal["Authorization", "X-API-Key", "API-Key", "X-Auth-Token", "X-Access-Token"],
        BeforeValidator(_header_name),
        Field(
            description="The header that has the credential. Every header but `Authorization` has it without a scheme.",
        ),
    ] = "Authorization"
    scope: Annotated[
        Annotated[str, Shaped(_SCOPE_PATTERN, "must be a scope, such as reports:read", scopes.MAX_LENGTH)] | None,
        Field(
            description="The scope that an API key needs; a key without it gets 403 `insufficient_scope`. Users "
            "are not checked: their role is in `X-Kataven-Role`.",
        ),
    ] = None
    mode: Annotated[
        Literal["standard", "nginx"],
        Field(
            description="`nginx` sends 429 and 503 as 403, with the status in `X-Kataven-Status` and the problem in "
            "`X-Kataven-Problem`."
        ),
    ] = "standard"


class VerifyRequests:
    """WSGI middleware that makes every request to `/v1/verify`, and to its form for Envoy, a plain GET.

    Some gateways send the method of their client's request. To verify `OPTIONS` like `GET` matters most: the API
    answers `OPTIONS` without a credential, and a gateway would take that 200 as permission.

    Envoy appends its client's path and query string to the configured prefix. Therefore everything from the next slash
    on is ignored, and parameters are part of the prefix: `/v1/verify/envoy;cost=5;account=acme`. A client's path starts
    with a slash, so a client can't add parameters.
    """

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path == PATH:
            _as_get(environ)
        elif path.startswith(ENVOY_PATH):
            parameters = path[len(ENVOY_PATH) :].partition("/")[0]
            if not parameters or parameters.startswith(";"):
                _as_get(environ)
                environ["QUERY_STRING"] = quote(parameters[1:], safe="=;").replace(";", "&")
                environ["PATH_INFO"] = PATH
                if environ.get(REQUESTED) == path:  # not a deprecated alias
                    environ[REQUESTED] = PATH
        return self._app(environ, start_response)


def _as_get(environ: dict[str, Any]) -> None:
    if environ["REQUEST_METHOD"] != "HEAD":
        environ["REQUEST_METHOD"] = "GET"
    for name in _CLIENTS_CONDITIONS:  # they are about a resource of the gateway's backend
        environ.pop(name, None)


def install(app: Flask) -> None:
    """Finish every response of `app` to a gateway. Must be called before `pipeline.install`: Flask runs the functions
    in reverse order, and the log and the request metrics must have the real status."""
    app.after_request(_finish)


def open_gateway_request(context: RequestContext, query_string: str) -> GatewayRequest:
    """Read the gateway's parameters. Raises GatewayMisconfigured."""
    if not query_string:
        context.gateway = WITHOUT_PARAMETERS
    else:
        context.gateway = GatewayRequest(nginx=is_nginx(query_string))  # for the error that follows, if any
        context.gateway = _parameters(query_string)
    return context.gateway


@lru_cache(maxsize=MAX_CONFIGURATIONS)
def _parameters(query_string: str) -> GatewayRequest:
    request = Request({"QUERY_STRING": query_string})
    try:
        query = read_query(request, VerifyQuery)
    except InvalidRequest as error:
        raise GatewayMisconfigured(error.errors) from None
    if query.account == OPERATORS_ACCOUNT:
        raise GatewayMisconfigured([FieldError("account", "is reserved for operators; name a customer's account")])
    return GatewayRequest(query.cost, query.account, query.credential_header, query.mode == NGINX, query.scope)


def is_nginx(query_string: str) -> bool:
    """Whether the gateway asked for statuses that nginx understands. Never raises."""
    return Request({"QUERY_STRING": query_string}).args.get("mode") == NGINX


def parse(gateway: GatewayRequest, environ: dict[str, Any]) -> Credential:
    """The credential of the gateway's client. Raises the errors of `parse_credential`."""
    given = environ.get(_IN_ENVIRON[gateway.credential_header])
    if gateway.credential_header != _AUTHORIZATION:
        if not given:
            raise MissingCredential(
                f"The request has no credential. Send an API key or a JWT in the `{gateway.credential_header}` header."
            )
        given = f"Bearer {given}"
    credential = parse_credential(
        given,
        environ.get("HTTP_X_ACCOUNT_ID"),
        misplaced=misplaced_key(environ),
        account_of_jwt=gateway.account,
    )
    if gateway.account is not None and credential.account != gateway.account:
        raise AccountMismatch("This credential belongs to another account than the one that this API serves.")
    return credential


def identity_headers(principal: Principal) -> dict[str, str]:
    """The headers that tell the backend who is calling. Each is always present, and empty if it does not apply: most
    gateways replace a header that their client forged only if this response has one of that name.

    Values are ASCII without control characters: an account is `[a-z0-9_-]+`, a key's id is a UUID, a role is a fixed
    word, a scope is `[a-z0-9-]+:(read|write)`, and of a JWT's subject everything but letters, digits and `-._~:@` is
    percent-encoded.
    """
    return {
        "X-Kataven-Account": principal.account,
        "X-Kataven-Principal": _quoted(principal.label),
        "X-Kataven-Key-Id": principal.id if principal.kind is CredentialKind.API_KEY else "",
        "X-Kataven-Role": "" if principal.role is None else str(principal.role),
        "X-Kataven-Scopes": _scopes(principal),
    }


@lru_cache(maxsize=4096)
def _quoted(label: str) -> str:
    return quote(label, safe=":@")


def _scopes(principal: Principal) -> str:
    """Empty for a user. Never empty for an API key: a backend could take that for a gateway without this header."""
    if principal.kind is not CredentialKind.API_KEY:
        return ""
    return FULL_ACCESS if principal.scopes is None else " ".join(sorted(principal.scopes))


def headers_of_accepted(context: RequestContext) -> list[tuple[str, str]]:
    """Count an accepted request of a gateway. Returns the headers of its response."""
    if context.gateway is None:
        return []
    context.services.metrics.record_gateway_decision("accepted")
    return [("X-Kataven-Status", "200")] if context.gateway.nginx else []


def _finish(response: Response) -> Response:
    context: RequestContext | None = g.get("kataven")
    if context is None or context.gateway is None:
        return response
    context.services.metrics.record_gateway_decision(context.problem or "accepted")
    if context.problem is not None:
        response.headers["X-Kataven-Code"] = context.problem
    if context.gateway.nginx:
        response.headers["X-Kataven-Status"] = str(response.status_code)
        if response.content_type == "application/problem+json":
            # nginx drops the body. As a header, it must be one line of ASCII, which this encoding guarantees.
            body = json.loads(response.get_data())
            response.headers["X-Kataven-Problem"] = json.dumps(body, ensure_ascii=True, separators=(",", ":"))
        if response.status_code not in NGINX_STATUSES:
            response.status_code = 403
    return response
