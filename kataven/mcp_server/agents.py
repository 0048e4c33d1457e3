"""Agents, and whether web pages may embed them."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

from kataven.client import Agent, AgentWidgetSettings
from kataven.mcp_server.arguments import AgentId, Cursor, IfMatch, PageSize
from kataven.mcp_server.calling import CHANGE, CREATE, READ, Calling
from kataven.mcp_server.inputs import AgentChanges, AgentFields, AgentName, AgentWidgetChanges
from kataven.mcp_server.outputs import AgentList, Deleted, agent_list


def add(server: MCPServer, calling: Calling) -> None:
    """Tools about agents."""

    @server.tool("kataven_list_agents", "List agents", annotations=READ)
    async def list_agents(context: Context, limit: PageSize = 50, cursor: Cursor = None) -> AgentList:
        """The account's agents, newest first, a page at a time, without their prompts."""
        async with calling(context, "agent") as kataven:
            return agent_list(await kataven.agents.page(cursor=cursor, limit=limit))

    @server.tool("kataven_get_agent", "Read an agent", annotations=READ)
    async def get_agent(context: Context, agent_id: AgentId) -> Agent:
        """Everything about one agent, with the `etag` that a change can be made conditional on."""
        async with calling(context, "agent") as kataven:
            return await kataven.agents.get(agent_id)

    @server.tool("kataven_create_agent", "Create an agent", annotations=CREATE)
    async def create_agent(context: Context, name: AgentName, fields: AgentFields | None = None) -> Agent:
        """A new agent: a draft, unless `fields` says otherwise."""
        async with calling(context, "agent") as kataven:
            return await kataven.agents.create(name, **(fields.given() if fields else {}))

    @server.tool("kataven_update_agent", "Change an agent", annotations=CHANGE)
    async def update_agent(
        context: Context, agent_id: AgentId, changes: AgentChanges, if_match: IfMatch = None
    ) -> Agent:
        """Change the given fields of an agent; what they held before is gone."""
        async with calling(context, "agent") as kataven:
            return await kataven.agents.update(agent_id, if_match=if_match, **changes.given())

    @server.tool("kataven_delete_agent", "Delete an agent", annotations=CHANGE)
    async def delete_agent(context: Context, agent_id: AgentId, if_match: IfMatch = None) -> Deleted:
        """Delete an agent for good. Widget keys that are pinned to it serve nothing from then on."""
        async with calling(context, "agent") as kataven:
            await kataven.agents.delete(agent_id, if_match=if_match)
        return Deleted(agent_id)

    @server.tool("kataven_get_agent_widget_settings", "Read an agent's widget settings", annotations=READ)
    async def get_agent_widget_settings(context: Context, agent_id: AgentId) -> AgentWidgetSettings:
        """Whether web pages may embed the agent, and which visitors it takes."""
        async with calling(context, "agent") as kataven:
            return await kataven.agents.get_widget_settings(agent_id)

    @server.tool("kataven_update_agent_widget_settings", "Change an agent's widget settings", annotations=CHANGE)
    async def update_agent_widget_settings(
        context: Context, agent_id: AgentId, changes: AgentWidgetChanges, if_match: IfMatch = None
    ) -> AgentWidgetSettings:
        """Allow or forbid web pages to embed the agent, and choose which visitors it takes."""
        async with calling(context, "agent") as kataven:
            return await kataven.agents.update_widget_settings(agent_id, if_match=if_match, **changes.given())
