"""The usage of one API key, and what its revocation would stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.api import api_keys
from kataven.api.usage import LastCallView, UsagePointView
from kataven.usage import keys
from kataven.usage.keys import AddressCalls, RouteCalls
from kataven.web.access import MANAGE, WRITE
from kataven.web.operation import ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import Query, View, write_json
from kataven.web.usage_bodies import shape_last

blueprint = api_keys.blueprint


class KeyUsageQuery(Query):
    """The period of a key's usage."""

    hours: int = Field(default=24, ge=1, le=24 * 90, description="How many hours until now.")


class AddressCallsView(View):
    """The calls from one address with one user agent. They are kept for 48 hours."""

    address: str = Field(description="Empty for calls from more addresses than a worker keeps apart.")
    user_agent: str
    calls: int
    last_at: datetime
    route: str = Field(description="Of the last call.")


class RouteCallsView(View):
    """The calls of one route."""

    route: str
    calls: int


class KeyOutcomesView(View):
    """How many calls had each outcome."""

    ok: int
    invalid: int
    refused: int
    limited: int
    failed: int


class ApiKeyUsageView(View):
    """The usage of an API key within a period."""

    id: UUID
    name: str
    since: datetime
    last: LastCallView | None
    calls: KeyOutcomesView
    hours: list[UsagePointView] = Field(description="The calls by hour. Hours without calls are omitted.")
    addresses: list[AddressCallsView] = Field(description="Up to 50, those with the latest call first.")
    routes: list[RouteCallsView] = Field(description="The 10 most called routes, without refused calls.")


class RevocationPreviewView(View):
    """What the revocation of an API key would stop."""

    id: UUID
    name: str
    in_use: bool = Field(description="Whether the key was accepted within the last hour.")
    calls_last_hour: int = Field(description="Calls that were not refused.")
    calls_last_day: int
    last: LastCallView | None
    addresses: list[AddressCallsView] = Field(description="Of the last hour.")
    routes: list[RouteCallsView] = Field(description="Of the last 24 hours.")


@blueprint.operation(
    "GET",
    "/v1/api-keys/<key_id>/usage",
    access=WRITE,
    summary="Read the usage of an API key",
    response=ResponseSpec(200, "The calls of the key, its addresses and its routes.", ApiKeyUsageView),
    query=KeyUsageQuery,
)
def read_api_key_usage(context: RequestContext, key_id: UUID, query: KeyUsageQuery) -> Response:
    """Includes calls that were refused because the key had ended. JWTs need the role owner or admin."""
    since = datetime.now(UTC) - timedelta(hours=query.hours)
    with context.reading() as session:
        name = keys.require(session, key_id).name
        last = keys.last_calls(session, [key_id]).get(key_id)
        outcomes = keys.by_key(session, [key_id], since).get(key_id, {})
        hours = keys.hourly(session, [key_id], since).get(key_id, {})
        addresses, routes = keys.addresses(session, key_id, since), keys.routes(session, key_id, since)
    return write_json(
        {
            "id": key_id,
            "name": name,
            "since": since,
            "last": shape_last(last),
            "calls": {outcome: outcomes.get(outcome, 0) for outcome in KeyOutcomesView.model_fields},
            "hours": [{"at": at, "calls": calls} for at, calls in hours.items()],
            "addresses": _addresses(addresses),
            "routes": _routes(routes),
        }
    )


@blueprint.operation(
    "POST",
    "/v1/api-keys/<key_id>/revoke-preview",
    access=MANAGE,
    summary="Preview the revocation of an API key",
    response=ResponseSpec(200, "What the revocation would stop.", RevocationPreviewView),
)
def preview_revocation(context: RequestContext, key_id: UUID) -> Response:
    """Changes nothing. Returns how often, from where and for what the key is used. The last seconds may be missing."""
    with context.reading() as session:
        found = keys.preview(session, key_id, datetime.now(UTC))
    return write_json(
        {
            "id": key_id,
            "name": found.name,
            "in_use": found.in_use,
            "calls_last_hour": found.calls_last_hour,
            "calls_last_day": found.calls_last_day,
            "last": shape_last(found.last),
            "addresses": _addresses(found.addresses),
            "routes": _routes(found.routes),
        }
    )


def _addresses(found: Sequence[AddressCalls]) -> list[dict[str, Any]]:
    return [
        {
            "address": one.address,
            "user_agent": one.agent,
            "calls": one.calls,
            "last_at": one.last_at,
            "route": one.route,
        }
        for one in found
    ]


def _routes(found: Sequence[RouteCalls]) -> list[dict[str, Any]]:
    return [{"route": one.route, "calls": one.calls} for one in found]
