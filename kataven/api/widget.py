"""`/v1/widget`: public operations for pages with a widget key, restricted to the key's domain allowlist."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from kataven.api.widget_schemas import (
    ConfigQuery,
    ExchangeInput,
    GuestInput,
    JwksView,
    RefreshInput,
    UserTokenInput,
    UserTokenView,
    VisitorTokenView,
    WidgetConfigView,
)
from kataven.api.widget_settings import shape as branding_shape
from kataven.identity import token as tokens
from kataven.identity.token import Token
from kataven.web.access import KEYS_ONLY, PUBLIC, PUBLIC_BY_ADDRESS
from kataven.web.operation import ApiBlueprint, OpenApiLink, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import write_json
from kataven.widget import allowlist, user_tokens, visitor_tokens
from kataven.widget.allowlist import Origin
from kataven.widget.errors import WidgetNotConfigured
from kataven.widget.flows import VisitorTokens
from kataven.widget.user_tokens import UserTokenSubject

blueprint = ApiBlueprint(
    "widget",
    __name__,
    "widget",
    "The widget: operations for web pages and for the voice edge.",
    resource="widget-sessions",
)

JWKS_MAX_AGE_SECONDS = 300

NO_STORE = {"Cache-Control": "no-store"}
PAGE_REFUSALS = (
    *("unknown_widget_key", "widget_key_disabled", "account_suspended", "origin_refused"),
    *("agent_missing", "unknown_agent", "wrong_agent", "agent_not_active", "widget_off", "visitor_kind_forbidden"),
    *("widget_not_configured", "schema_mismatch"),
)
REFRESH = OpenApiLink("POST", "/v1/widget/auth/refresh", body={"refresh_token": "refresh_token"})


@blueprint.operation(
    "GET",
    "/v1/widget/config",
    access=PUBLIC_BY_ADDRESS,
    summary="Retrieve the widget's configuration",
    response=ResponseSpec(200, "The branding, the agent and the allowed visitor types.", WidgetConfigView),
    query=ConfigQuery,
    refusals=PAGE_REFUSALS,
)
def read_widget_config(context: RequestContext, query: ConfigQuery) -> Response:
    """The page's `Origin` (or `Referer`, if `Origin` is missing) must be in the key's domain allowlist."""
    page, branding = context.services.widget.config(_token(context, query.client_key), page_origin(), query.agent_id)
    config = {
        "branding": branding_shape(branding),
        "agent": {
            "id": page.agent.id,
            "name": page.agent.name,
            "greeting_message": page.agent.greeting_message,
            "greeting_mode": page.agent.greeting_mode,
        },
        "auth": sorted(page.kinds),
        "voice_url": context.services.widget.voice_url,
    }
    return write_json(config, headers=NO_STORE)


@blueprint.operation(
    "POST",
    "/v1/widget/auth/guest",
    access=PUBLIC_BY_ADDRESS,
    summary="Create a guest session",
    response=ResponseSpec(200, "A visitor token and a refresh token.", VisitorTokenView),
    body=GuestInput,
    max_body_bytes=8 * 1024,
    refusals=(*PAGE_REFUSALS, "too_many_visits"),
    links=(REFRESH,),
)
def create_guest_session(context: RequestContext, body: GuestInput) -> Response:
    """The page must be in the key's domain allowlist, and the agent must allow guests."""
    return _pair(context.services.widget.guest(_token(context, body.client_key), page_origin(), body.agent_id))


@blueprint.operation(
    "POST",
    "/v1/widget/auth/user-token",
    access=KEYS_ONLY,
    summary="Create a user token",
    response=ResponseSpec(201, "A user token, valid once and for five minutes.", UserTokenView),
    body=UserTokenInput,
    max_body_bytes=16 * 1024,
    refusals=("widget_not_configured",),
    links=(OpenApiLink("POST", "/v1/widget/auth/exchange", body={"user_token": "user_token"}),),
)
def create_user_token(context: RequestContext, body: UserTokenInput) -> Response:
    """Call this from your server with an API key, never from a browser. If the API key is revoked or expires, the
    user's visitor sessions end.
    """
    user = UserTokenSubject(context.principal.id, body.external_user_id, body.display_name, body.email)
    token = context.services.widget.create_user_token(context.principal.account, user)
    return write_json({"user_token": token, "expires_in": user_tokens.TTL_SECONDS}, 201, NO_STORE)


@blueprint.operation(
    "POST",
    "/v1/widget/auth/exchange",
    access=PUBLIC_BY_ADDRESS,
    summary="Exchange a user token",
    response=ResponseSpec(200, "A visitor token and a refresh token.", VisitorTokenView),
    body=ExchangeInput,
    max_body_bytes=8 * 1024,
    refusals=(
        *PAGE_REFUSALS,
        *("user_token_unknown", "user_token_expired", "user_token_used", "user_token_of_another_account"),
        *("minting_key_ended", "too_many_visits"),
    ),
    links=(REFRESH,),
)
def exchange_user_token(context: RequestContext, body: ExchangeInput) -> Response:
    """A user token is valid once. A request from a page that is not allowed does not use it."""
    return _pair(
        context.services.widget.exchange(
            _token(context, body.client_key), body.user_token, page_origin(), body.agent_id
        )
    )


@blueprint.operation(
    "POST",
    "/v1/widget/auth/refresh",
    access=PUBLIC_BY_ADDRESS,
    summary="Refresh a visitor token",
    response=ResponseSpec(200, "The next visitor token and refresh token.", VisitorTokenView),
    body=RefreshInput,
    max_body_bytes=8 * 1024,
    refusals=(*PAGE_REFUSALS, "refresh_token_unknown", "refresh_token_reused", "minting_key_ended"),
    links=(REFRESH,),
)
def refresh_visitor_token(context: RequestContext, body: RefreshInput) -> Response:
    """All conditions for the visitor session are checked again. Sending a refresh token twice ends the session."""
    issued = context.services.widget.refresh(body.refresh_token, page_origin())
    context.named = issued.visitor_session.account
    return _pair(issued)


@blueprint.operation(
    "GET",
    "/v1/widget/jwks.json",
    access=PUBLIC,
    summary="List the public keys for visitor tokens",
    response=ResponseSpec(200, "A JWK Set (RFC 7517).", JwksView),
    refusals=("widget_not_configured",),
)
def read_visitor_token_keys(context: RequestContext) -> Response:
    """The voice edge verifies visitor tokens offline with these keys."""
    ring = context.services.widget.ring
    if ring is None:
        raise WidgetNotConfigured
    return write_json(ring.public_jwks(), headers={"Cache-Control": f"public, max-age={JWKS_MAX_AGE_SECONDS}"})


def page_origin() -> Origin | None:
    """The origin of the page, from the request's headers."""
    return allowlist.origin_of(request.headers.get("Origin"), request.headers.get("Referer"))


def _token(context: RequestContext, client_key: str) -> Token:
    token = tokens.parse(client_key)
    context.named = token.account
    return token


def _pair(issued: VisitorTokens) -> Response:
    body: dict[str, Any] = {
        "visitor_token": issued.visitor_token,
        "token_type": "Bearer",
        "expires_in": visitor_tokens.TTL_SECONDS,
        "refresh_token": issued.refresh_token,
        "agent_id": issued.visitor_session.agent_id,
        "kind": issued.visitor_session.visitor.kind,
    }
    return write_json(body, headers=NO_STORE)
