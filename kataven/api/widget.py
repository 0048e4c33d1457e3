"""`/v1/widget`: what pages that carry a widget key ask for. Public, and bound to the key's list of domains."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from kataven.api.widget_schemas import (
    ConfigQuery,
    ConfigView,
    ExchangeInput,
    GuestInput,
    JwksView,
    RefreshInput,
    UserTokenInput,
    UserTokenView,
    VisitorTokenView,
)
from kataven.api.widget_settings import shape as branding_shape
from kataven.identity import token as tokens
from kataven.identity.token import Token
from kataven.web.access import KEYS_ONLY, PUBLIC, PUBLIC_BY_ADDRESS
from kataven.web.operation import Answer, ApiBlueprint, OpenApiLink
from kataven.web.request_context import RequestContext
from kataven.web.schema import write_json
from kataven.widget import allowlist, user_tokens, visitor_tokens
from kataven.widget.allowlist import Origin
from kataven.widget.errors import WidgetNotConfigured
from kataven.widget.flows import VisitorTokens
from kataven.widget.user_tokens import UserTokenSubject

blueprint = ApiBlueprint("widget", __name__, "widget", "The widget: what pages and the voice edge ask for.")

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
    summary="Read a page's widget",
    answer=Answer(200, "What to draw.", ConfigView),
    query=ConfigQuery,
    refusals=PAGE_REFUSALS,
)
def read_config(context: RequestContext, query: ConfigQuery) -> Response:
    """The `Origin` of the page, else its `Referer`, is compared with the key's list of domains."""
    page, branding = context.services.widget.config(_token(context, query.client_key), came_from(), query.agent_id)
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
    summary="Let a guest in",
    answer=Answer(200, "The visitor's tokens.", VisitorTokenView),
    body=GuestInput,
    max_body_bytes=8 * 1024,
    refusals=(*PAGE_REFUSALS, "too_many_visits"),
    links=(REFRESH,),
)
def create_guest_session(context: RequestContext, body: GuestInput) -> Response:
    """If the page is on the key's list of domains, and the agent takes guests."""
    return _pair(context.services.widget.guest(_token(context, body.client_key), came_from(), body.agent_id))


@blueprint.operation(
    "POST",
    "/v1/widget/auth/user-token",
    access=KEYS_ONLY,
    summary="Vouch for a user",
    answer=Answer(201, "A user token, good once and for five minutes.", UserTokenView),
    body=UserTokenInput,
    max_body_bytes=16 * 1024,
    refusals=("widget_not_configured",),
    links=(OpenApiLink("POST", "/v1/widget/auth/exchange", body={"user_token": "user_token"}),),
)
def create_user_token(context: RequestContext, body: UserTokenInput) -> Response:
    """For your server, with its API key: never call it from a browser. The user's visit ends with the API key."""
    user = UserTokenSubject(context.principal.id, body.external_user_id, body.display_name, body.email)
    token = context.services.widget.vouch(context.principal.account, user)
    return write_json({"user_token": token, "expires_in": user_tokens.TTL_SECONDS}, 201, NO_STORE)


@blueprint.operation(
    "POST",
    "/v1/widget/auth/exchange",
    access=PUBLIC_BY_ADDRESS,
    summary="Let a user in",
    answer=Answer(200, "The visitor's tokens.", VisitorTokenView),
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
    """The user token is used up by the first page that may show it."""
    return _pair(
        context.services.widget.exchange(_token(context, body.client_key), body.user_token, came_from(), body.agent_id)
    )


@blueprint.operation(
    "POST",
    "/v1/widget/auth/refresh",
    access=PUBLIC_BY_ADDRESS,
    summary="Stay",
    answer=Answer(200, "The visitor's next tokens.", VisitorTokenView),
    body=RefreshInput,
    max_body_bytes=8 * 1024,
    refusals=(*PAGE_REFUSALS, "refresh_token_unknown", "refresh_token_reused", "minting_key_ended"),
    links=(REFRESH,),
)
def refresh(context: RequestContext, body: RefreshInput) -> Response:
    """All that let the visitor in is checked again. A refresh token that was used before ends the whole visit."""
    admitted = context.services.widget.refresh(body.refresh_token, came_from())
    context.named = admitted.visit.account
    return _pair(admitted)


@blueprint.operation(
    "GET",
    "/v1/widget/jwks.json",
    access=PUBLIC,
    summary="The keys of visitor tokens",
    answer=Answer(200, "A JWK Set (RFC 7517).", JwksView),
    refusals=("widget_not_configured",),
)
def read_jwks(context: RequestContext) -> Response:
    """For the voice edge, which verifies visitor tokens with it and asks nobody."""
    ring = context.services.widget.ring
    if ring is None:
        raise WidgetNotConfigured
    return write_json(ring.public_jwks(), headers={"Cache-Control": f"public, max-age={JWKS_MAX_AGE_SECONDS}"})


def came_from() -> Origin | None:
    """The page that the request says it comes from."""
    return allowlist.origin_of(request.headers.get("Origin"), request.headers.get("Referer"))


def _token(context: RequestContext, client_key: str) -> Token:
    token = tokens.parse(client_key)
    context.named = token.account
    return token


def _pair(admitted: VisitorTokens) -> Response:
    answer: dict[str, Any] = {
        "visitor_token": admitted.visitor_token,
        "token_type": "Bearer",
        "expires_in": visitor_tokens.TTL_SECONDS,
        "refresh_token": admitted.refresh_token,
        "agent_id": admitted.visit.agent_id,
        "kind": admitted.visit.visitor.kind,
    }
    return write_json(answer, headers=NO_STORE)
