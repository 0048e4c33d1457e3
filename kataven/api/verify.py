"""`/v1/verify`: verifies the credential of a request for a gateway in front of another API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request
from pydantic import Field

from kataven.identity.principal import Role
from kataven.web.access import ANY_CALLER
from kataven.web.forward_auth import PATH, VerifyQuery, identity_headers
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.problems import MAX_PREFERENCES_LENGTH
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, dump_json

blueprint = ApiBlueprint("verify", __name__, "principal", "Credential checks for gateways in front of other APIs.")


class VerifiedView(View):
    """A verified caller, with the values of the response headers."""

    account: str
    principal: str
    key_id: str | None
    role: Role | None
    scopes: list[str] | None = Field(description="The API key's scopes. Null means full access, as for a JWT.")


@blueprint.operation(
    "GET",
    PATH,
    access=ANY_CALLER,
    summary="Verify a credential for a gateway",
    response=ResponseSpec(
        200,
        "The credential is valid, and the request is within the limits. The body is empty unless the client sends "
        "`Accept: application/json`.",
        VerifiedView,
        headers={
            "X-Kataven-Account": "The account of the credential.",
            "X-Kataven-Principal": "`api_key:<key id>` or `jwt:<subject>`. In a subject, everything but letters, "
            "digits and `-._~:@` is percent-encoded.",
            "X-Kataven-Key-Id": "The API key's id. Empty for a JWT.",
            "X-Kataven-Role": "The user's role. Empty for an API key.",
            "X-Kataven-Scopes": "The API key's scopes, separated by spaces, including those that others include; `*` "
            "for full access. Empty for a JWT.",
            "RateLimit-Policy": "The limits of the account and the key.",
            "RateLimit": "What is left of each limit, after this request.",
            "Cache-Control": "`no-store`: a gateway that caches this response accepts revoked credentials.",
        },
    ),
    query=VerifyQuery,
    refusals=("gateway_misconfigured",),
    forward_auth=True,
)
def verify(context: RequestContext, query: VerifyQuery) -> Response:
    """For the forward-auth feature of a gateway: nginx, Caddy, HAProxy, Traefik, Envoy. Returns 200, 401, 403, 429 or
    503 only, and accepts every method. A malformed token is 401, and an account that is missing or invalid is 403.
    Invalid parameters are 503 `gateway_misconfigured`: the gateway's operator must fix them. `X-Kataven-Code` has the
    problem code.

    Envoy appends its client's path, so its form is `/v1/verify/envoy`, with parameters as `;cost=5;account=acme`.
    """
    body, headers = describe(context, request.environ)
    if not body:
        response = Response(headers=headers)
        response.headers.remove("Content-Type")
        return response
    response = Response(body, content_type="application/json")
    response.headers.update(headers)
    return response


def describe(context: RequestContext, environ: Mapping[str, Any]) -> tuple[bytes, list[tuple[str, str]]]:
    """The body, which is empty unless the client accepts JSON, and the headers that name the caller."""
    headers = identity_headers(context.principal)
    accept = environ.get("HTTP_ACCEPT", "")
    if "application/json" not in accept or len(accept) > MAX_PREFERENCES_LENGTH:
        return b"", list(headers.items())
    scopes = context.principal.scopes
    body = {
        "account": headers["X-Kataven-Account"],
        "principal": headers["X-Kataven-Principal"],
        "key_id": headers["X-Kataven-Key-Id"] or None,
        "role": headers["X-Kataven-Role"] or None,
        "scopes": None if scopes is None else sorted(scopes),
    }
    return dump_json(body), list(headers.items())
