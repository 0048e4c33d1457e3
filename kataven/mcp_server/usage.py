"""Tools that read the usage of the account and the log of its requests. They need the scopes `usage:read`,
`requests:read` and `api-keys:read`."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver import Context, MCPServer
from pydantic import Field

from kataven.client import ApiKeyUsage, ExplainedRequest, LoggedRequest, Usage
from kataven.mcp_server.tool_clients import READ, OpenClient

Outcome = Literal["ok", "invalid", "refused", "limited", "failed"]
OfCaller = Annotated[str | None, Field(description="Only calls of this API key or user, by its ID.")]
OfOutcome = Annotated[Outcome | None, Field(description="Only calls with this outcome.")]


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools about usage."""

    @server.tool("kataven_get_usage", "Get the usage", annotations=READ)
    async def get_usage(
        context: Context,
        interval: Annotated[
            Literal["minute", "hour", "day"], Field(description="The length of one point. 24 points are returned.")
        ] = "hour",
        group_by: Annotated[
            Literal["outcome", "code", "route", "caller"], Field(description="By what calls are counted.")
        ] = "outcome",
        caller: OfCaller = None,
        outcome: OfOutcome = None,
    ) -> Usage:
        """Get how often the account was called in the last 24 minutes, hours or days."""
        async with open_client(context, "usage") as kataven:
            return await kataven.usage.get(interval=interval, group_by=group_by, caller=caller, outcome=outcome)

    @server.tool("kataven_list_requests", "List the latest requests", annotations=READ)
    async def list_requests(
        context: Context,
        caller: OfCaller = None,
        outcome: OfOutcome = None,
        code: Annotated[
            str | None, Field(description="Only requests with this problem code, such as `rate_limited`.")
        ] = None,
        limit: Annotated[int, Field(ge=1, le=50, description="The maximum number of requests.")] = 20,
    ) -> list[LoggedRequest]:
        """List the latest requests of the account, newest first: refused and failed ones, and a sample of the
        others."""
        async with open_client(context, "request") as kataven:
            page = await kataven.requests.page(limit=limit, caller=caller, outcome=outcome, code=code)
        return list(page.items)

    @server.tool("kataven_explain_request", "Explain a request", annotations=READ)
    async def explain_request(
        context: Context,
        request_id: Annotated[str, Field(description="The `X-Request-ID` of the response.")],
    ) -> ExplainedRequest:
        """Explain why a request was refused or failed: which step decided it, what was left of the limits, and what to
        do."""
        async with open_client(context, "request") as kataven:
            return await kataven.requests.get(request_id)

    @server.tool("kataven_get_api_key_usage", "Get the usage of an API key", annotations=READ)
    async def get_api_key_usage(
        context: Context,
        key_id: Annotated[str, Field(description="The ID of the API key.")],
        hours: Annotated[int, Field(ge=1, le=2160, description="How many hours until now.")] = 24,
    ) -> ApiKeyUsage:
        """Get the calls of an API key by outcome and hour, its last call, its addresses and its routes."""
        async with open_client(context, "API key") as kataven:
            return await kataven.api_keys.usage(key_id, hours=hours)
