"""Widget keys: public, bound to domains, no credential."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import NewWidgetKey, RemovedWidgetKey, WidgetKey
from kataven.mcp_server.arguments import AgentId, Cursor, IfMatch, PageSize, WidgetKeyId
from kataven.mcp_server.calling import CHANGE, CREATE, READ, Calling
from kataven.mcp_server.inputs import Domains, WidgetKeyChanges, WidgetKeyName
from kataven.mcp_server.outputs import WidgetKeyList, widget_key_list


def add(server: MCPServer, calling: Calling) -> None:
    """Tools about widget keys."""

    @server.tool("kataven_list_widget_keys", "List widget keys", annotations=READ)
    async def list_widget_keys(context: Context, limit: PageSize = 50, cursor: Cursor = None) -> WidgetKeyList:
        """The account's widget keys, newest first, disabled ones too, a page at a time."""
        async with calling(context, "widget_key") as kataven:
            return widget_key_list(await kataven.widget_keys.page(cursor=cursor, limit=limit))

    @server.tool("kataven_get_widget_key", "Read a widget key", annotations=READ)
    async def get_widget_key(context: Context, key_id: WidgetKeyId) -> WidgetKey:
        """One widget key: its domains and its pin, not its text."""
        async with calling(context, "widget_key") as kataven:
            return await kataven.widget_keys.get(key_id)

    @server.tool("kataven_create_widget_key", "Make a widget key", annotations=CREATE)
    async def create_widget_key(
        context: Context,
        name: WidgetKeyName,
        domain_allowlist: Domains,
        agent_id: AgentId | None = None,
    ) -> NewWidgetKey:
        """A new widget key. Give the user the `snippet`: it is shown this once. The key in it is public, no secret."""
        async with calling(context, "widget_key") as kataven:
            return await kataven.widget_keys.create(name, domain_allowlist=domain_allowlist, agent_id=agent_id)

    @server.tool("kataven_update_widget_key", "Change, disable or enable a widget key", annotations=CHANGE)
    async def update_widget_key(
        context: Context, key_id: WidgetKeyId, changes: WidgetKeyChanges, if_match: IfMatch = None
    ) -> WidgetKey:
        """Change the given fields. Pages that lose a domain, or whose key is disabled, are refused at once."""
        async with calling(context, "widget_key") as kataven:
            return await kataven.widget_keys.update(key_id, if_match=if_match, **changes.given())

    @server.tool("kataven_delete_widget_key", "Remove a widget key", annotations=CHANGE)
    async def delete_widget_key(context: Context, key_id: WidgetKeyId, if_match: IfMatch = None) -> RemovedWidgetKey:
        """Remove a widget key for good: pages that still carry it, and their visitors, are refused from then on."""
        async with calling(context, "widget_key") as kataven:
            return await kataven.widget_keys.delete(key_id, if_match=if_match)
