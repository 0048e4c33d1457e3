"""Tools that manage widget keys. A widget key is public, bound to domains, and not a credential."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import NewWidgetKey, RemovedWidgetKey, WidgetKey
from kataven.mcp_server.arguments import AgentId, Cursor, IfMatch, PageSize, WidgetKeyId
from kataven.mcp_server.inputs import Domains, WidgetKeyChanges, WidgetKeyName
from kataven.mcp_server.outputs import WidgetKeyList, widget_key_list
from kataven.mcp_server.tool_clients import CHANGE, CREATE, READ, OpenClient


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools for widget keys."""

    @server.tool("kataven_list_widget_keys", "List widget keys", annotations=READ)
    async def list_widget_keys(context: Context, limit: PageSize = 50, cursor: Cursor = None) -> WidgetKeyList:
        """List the account's widget keys, newest first, including disabled ones, one page at a time."""
        async with open_client(context, "widget_key") as kataven:
            return widget_key_list(await kataven.widget_keys.page(cursor=cursor, limit=limit))

    @server.tool("kataven_get_widget_key", "Get a widget key", annotations=READ)
    async def get_widget_key(context: Context, key_id: WidgetKeyId) -> WidgetKey:
        """Get a widget key: its domains and the agent that it is pinned to, without the key itself."""
        async with open_client(context, "widget_key") as kataven:
            return await kataven.widget_keys.get(key_id)

    @server.tool("kataven_create_widget_key", "Create a widget key", annotations=CREATE)
    async def create_widget_key(
        context: Context,
        name: WidgetKeyName,
        domain_allowlist: Domains,
        agent_id: AgentId | None = None,
    ) -> NewWidgetKey:
        """Create a widget key. Give the user the `snippet`: it is returned only once. The key in it is not a secret."""
        async with open_client(context, "widget_key") as kataven:
            return await kataven.widget_keys.create(name, domain_allowlist=domain_allowlist, agent_id=agent_id)

    @server.tool("kataven_update_widget_key", "Update, disable or enable a widget key", annotations=CHANGE)
    async def update_widget_key(
        context: Context, key_id: WidgetKeyId, changes: WidgetKeyChanges, if_match: IfMatch = None
    ) -> WidgetKey:
        """Change the given fields. Pages on a removed domain, or with a disabled key, are refused immediately."""
        async with open_client(context, "widget_key") as kataven:
            return await kataven.widget_keys.update(key_id, if_match=if_match, **changes.given())

    @server.tool("kataven_delete_widget_key", "Delete a widget key", annotations=CHANGE)
    async def delete_widget_key(context: Context, key_id: WidgetKeyId, if_match: IfMatch = None) -> RemovedWidgetKey:
        """Delete a widget key permanently. Pages that still use it, and their visitors, are refused immediately."""
        async with open_client(context, "widget_key") as kataven:
            return await kataven.widget_keys.delete(key_id, if_match=if_match)
