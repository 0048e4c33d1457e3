"""Tools that manage agents and their widget settings."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import Agent, AgentWidgetSettings
from kataven.mcp_server.arguments import AgentId, Cursor, IfMatch, PageSize
from kataven.mcp_server.inputs import AgentChanges, AgentFields, AgentName, AgentWidgetChanges
from kataven.mcp_server.outputs import AgentList, Deleted, agent_list
from kataven.mcp_server.tool_clients import CHANGE, CREATE, READ, OpenClient


def add(server: MCPServer, open_client: OpenClient) -> None:
    """Register the tools for agents."""

    @server.tool("kataven_list_agents", "List agents", annotations=READ)
    async def list_agents(context: Context, limit: PageSize = 50, cursor: Cursor = None) -> AgentList:
        """List the account's agents, newest first, one page at a time, without their prompts."""
        async with open_client(context, "agent") as kataven:
            return agent_list(await kataven.agents.page(cursor=cursor, limit=limit))

    @server.tool("kataven_get_agent", "Get an agent", annotations=READ)
    async def get_agent(context: Context, agent_id: AgentId) -> Agent:
        """Get all fields of an agent, with the `etag` for conditional updates (`if_match`)."""
        async with open_client(context, "agent") as kataven:
            return await kataven.agents.get(agent_id)

    @server.tool("kataven_create_agent", "Create an agent", annotations=CREATE)
    async def create_agent(context: Context, name: AgentName, fields: AgentFields | None = None) -> Agent:
        """Create an agent. Its status is `draft` unless `fields` sets another."""
        async with open_client(context, "agent") as kataven:
            return await kataven.agents.create(name, **(fields.given() if fields else {}))

    @server.tool("kataven_update_agent", "Update an agent", annotations=CHANGE)
    async def update_agent(
        context: Context, agent_id: AgentId, changes: AgentChanges, if_match: IfMatch = None
    ) -> Agent:
        """Change the given fields of an agent. Their previous values are overwritten."""
        async with open_client(context, "agent") as kataven:
            return await kataven.agents.update(agent_id, if_match=if_match, **changes.given())

    @server.tool("kataven_delete_agent", "Delete an agent", annotations=CHANGE)
    async def delete_agent(context: Context, agent_id: AgentId, if_match: IfMatch = None) -> Deleted:
        """Delete an agent permanently. Widget keys that are pinned to it stop working."""
        async with open_client(context, "agent") as kataven:
            await kataven.agents.delete(agent_id, if_match=if_match)
        return Deleted(agent_id)

    @server.tool("kataven_get_agent_widget_settings", "Get an agent's widget settings", annotations=READ)
    async def get_agent_widget_settings(context: Context, agent_id: AgentId) -> AgentWidgetSettings:
        """Get whether web pages may embed the agent, and which visitors it accepts."""
        async with open_client(context, "agent") as kataven:
            return await kataven.agents.get_widget_settings(agent_id)

    @server.tool("kataven_update_agent_widget_settings", "Update an agent's widget settings", annotations=CHANGE)
    async def update_agent_widget_settings(
        context: Context, agent_id: AgentId, changes: AgentWidgetChanges, if_match: IfMatch = None
    ) -> AgentWidgetSettings:
        """Allow or forbid web pages to embed the agent, and set which visitors it accepts."""
        async with open_client(context, "agent") as kataven:
            return await kataven.agents.update_widget_settings(agent_id, if_match=if_match, **changes.given())
