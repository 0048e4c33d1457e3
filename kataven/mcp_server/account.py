"""Tools that return the caller's identity and the remaining quota."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import Limits
from kataven.mcp_server.tool_clients import READ, OpenClient


@dataclass(frozen=True)
class Caller:
    """The account that the tools manage, and the API key that they use, without the key itself."""

    account: str
    account_name: str
    api_key_id: str
    api_key_name: str
    api_key_expires_at: datetime | None
    api_key_scopes: tuple[str, ...] | None
    """None: the key has full access, except managing keys."""


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools about the caller."""

    @server.tool("kataven_get_caller", "Get the caller", annotations=READ)
    async def get_caller(context: Context) -> Caller:
        """Get the account that these tools manage and the API key in use (name and scopes, never the key itself)."""
        async with open_client(context, "caller") as kataven:
            me = await kataven.me()
        key = me.credential
        return Caller(me.account, me.account_name, key.id, key.name, key.expires_at, me.scopes)

    @server.tool("kataven_get_limits", "Get the rate limits", annotations=READ)
    async def get_limits(context: Context) -> Limits:
        """Get each rate limit of the account and the API key, and the remaining quota."""
        async with open_client(context, "caller") as kataven:
            return (await kataven.me()).limits
