"""Tools that read the usage of the account and the log of its requests. They need the scopes `usage:read` and
`requests:read`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mcp.server.mcpserver import Context, MCPServer
from pydantic import Field

from kataven.client import ExplainedRequest, LoggedRequest, Usage
from kataven.mcp_server.tool_clients import READ, OpenClient

SHOWN = 20
"""How many requests are listed."""
Caller = Annotated[str | None, Field(description="ID of an API key or user.")]


@dataclass(frozen=True)
class LatestRequests:
    """The latest requests, newest first."""

    items: tuple[LoggedRequest, ...]


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools about usage."""

    @server.tool("kataven_get_usage", "Get usage", annotations=READ)
    async def get_usage(
        context: Context,
        interval: Literal["minute", "hour", "day"] = "hour",
        group_by: Literal["outcome", "code", "route", "caller"] = "outcome",
        caller: Caller = None,
    ) -> Usage:
        """Count the account's calls in the last 24 intervals."""
        async with open_client(context, "usage") as kataven:
            return await kataven.usage.get(interval=interval, group_by=group_by, caller=caller)

    @server.tool("kataven_list_requests", "List requests", annotations=READ)
    async def list_requests(
        context: Context,
        caller: Caller = None,
        outcome: Literal["ok", "invalid", "refused", "limited", "failed"] | None = None,
    ) -> LatestRequests:
        """List the 20 latest refused and failed requests, and a sample of the others."""
        async with open_client(context, "request") as kataven:
            page = await kataven.requests.page(limit=SHOWN, caller=caller, outcome=outcome)
        return LatestRequests(page.items)

    @server.tool("kataven_explain_request", "Explain a request", annotations=READ)
    async def explain_request(context: Context, request_id: str) -> ExplainedRequest:
        """Explain why a request was refused or failed, by its `X-Request-ID`."""
        async with open_client(context, "request") as kataven:
            return await kataven.requests.get(request_id)
