"""Who am I, and how much is left?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import Limits
from kataven.mcp_server.calling import READ, Calling


@dataclass(frozen=True)
class Caller:
    """The account that the tools act for, and the name of the API key that they use."""

    account: str
    account_name: str
    api_key_id: str
    api_key_name: str
    api_key_expires_at: datetime | None


def add(server: MCPServer, calling: Calling) -> None:
    """Tools about the caller."""

    @server.tool("kataven_get_caller", "Who am I", annotations=READ)
    async def get_caller(context: Context) -> Caller:
        """Which account these tools manage, and with which API key (its name, never its text)."""
        async with calling(context, "caller") as kataven:
            me = await kataven.me()
        return Caller(me.account, me.account_name, me.credential.id, me.credential.name, me.credential.expires_at)

    @server.tool("kataven_get_limits", "Limits", annotations=READ)
    async def get_limits(context: Context) -> Limits:
        """How many requests the account may make a minute, an hour, a day and at the same time, and what is left."""
        async with calling(context, "caller") as kataven:
            return (await kataven.me()).limits
