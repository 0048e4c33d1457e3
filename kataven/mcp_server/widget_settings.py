"""Tools that manage the widget's appearance."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import WidgetSettings
from kataven.mcp_server.arguments import IfMatch
from kataven.mcp_server.inputs import WidgetSettingsChanges
from kataven.mcp_server.tool_clients import CHANGE, READ, OpenClient


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools for the widget's appearance."""

    @server.tool("kataven_get_widget_settings", "Get the widget's appearance", annotations=READ)
    async def get_widget_settings(context: Context) -> WidgetSettings:
        """Get the title, color, logo, position and theme of the widget on all of the account's pages."""
        async with open_client(context, "widget_settings") as kataven:
            return await kataven.widget_settings.get()

    @server.tool("kataven_update_widget_settings", "Update the widget's appearance", annotations=CHANGE)
    async def update_widget_settings(
        context: Context, changes: WidgetSettingsChanges, if_match: IfMatch = None
    ) -> WidgetSettings:
        """Change the given settings. They apply to all pages that are loaded after the change."""
        async with open_client(context, "widget_settings") as kataven:
            return await kataven.widget_settings.update(if_match=if_match, **changes.given())
