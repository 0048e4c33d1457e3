"""How the widget looks."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import WidgetSettings
from kataven.mcp_server.arguments import IfMatch
from kataven.mcp_server.calling import CHANGE, READ, Calling
from kataven.mcp_server.inputs import WidgetSettingsChanges


def add(server: MCPServer, calling: Calling) -> None:
    """Tools about the widget's looks."""

    @server.tool("kataven_get_widget_settings", "Read the widget's looks", annotations=READ)
    async def get_widget_settings(context: Context) -> WidgetSettings:
        """Title, color, logo, position and theme of the widget on all of the account's pages."""
        async with calling(context, "widget_settings") as kataven:
            return await kataven.widget_settings.get()

    @server.tool("kataven_update_widget_settings", "Change the widget's looks", annotations=CHANGE)
    async def update_widget_settings(
        context: Context, changes: WidgetSettingsChanges, if_match: IfMatch = None
    ) -> WidgetSettings:
        """Change the given ones, for every page that is loaded from then on."""
        async with calling(context, "widget_settings") as kataven:
            return await kataven.widget_settings.update(if_match=if_match, **changes.given())
