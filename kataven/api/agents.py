"""`/v1/agents`: the account's agents and their widget settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response

from kataven.account import agents
from kataven.account.models import Agent, AgentStatus, AuthMode, Category, GreetingMode, VoiceProvider, WidgetAuthMode
from kataven.account.row_list import RowList
from kataven.web.access import READ, WRITE
from kataven.web.conditional import require_match, write_tagged
from kataven.web.idempotency import create_once
from kataven.web.inputs.agents import AgentInput, AgentPatch, AgentWidgetSettingsPatch
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import PageQuery, write_rows
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, View, fields_of

blueprint = ApiBlueprint("agents", __name__, "agent", "Agents: their prompts, voices and widget settings.")


class AgentView(View):
    """A voice or chat agent."""

    id: UUID
    name: str
    description: str | None
    category: Category
    status: AgentStatus
    system_prompt: str | None
    greeting_message: str | None
    greeting_mode: GreetingMode
    llm_model: str
    voice_provider: VoiceProvider
    voice_id: str | None
    auth_mode: AuthMode
    ringing_enabled: bool
    background_audio_enabled: bool
    background_audio_volume: float
    noise_suppression_enabled: bool
    created_at: datetime
    updated_at: datetime
    created_by: str


class AgentWidgetSettingsView(View):
    """Whether an agent can be embedded in web pages, and which visitors it accepts."""

    widget_enabled: bool
    auth_mode: WidgetAuthMode


_FIELDS = tuple(AgentView.model_fields)
_LIST = RowList(Agent, _FIELDS)


@blueprint.operation(
    "GET",
    "/v1/agents",
    access=READ,
    summary="List agents",
    response=ResponseSpec(200, "A page of agents, newest first.", list[AgentView]),
    query=PageQuery,
)
def list_agents(context: RequestContext, query: PageQuery) -> Response:
    """Returns agents from newest to oldest, in pages."""
    return write_rows(_LIST.page(context.rows, query.limit, query.after), query)


@blueprint.operation(
    "POST",
    "/v1/agents",
    access=WRITE,
    summary="Create an agent",
    response=ResponseSpec(201, "The created agent.", AgentView),
    body=AgentInput,
    idempotent=True,
)
def create_agent(context: RequestContext, body: AgentInput) -> Response:
    """Only `name` is required. A new agent has the status `draft` unless you set another."""
    return create_once(
        context,
        lambda session: shape(agents.create(session, body.model_dump(), context.actor)),
        lambda agent: write_tagged(agent, 201, {"Location": f"/v1/agents/{agent['id']}"}),
    )


@blueprint.operation(
    "GET",
    "/v1/agents/<agent_id>",
    access=READ,
    summary="Retrieve an agent",
    response=ResponseSpec(200, "The agent.", AgentView),
    conditional=True,
)
def read_agent(context: RequestContext, agent_id: UUID) -> Response:
    """Returns an `ETag`. Send it as `If-Match` with an update, so that you don't overwrite another change."""
    with context.reading() as session:
        return write_tagged(shape(agents.read(session, agent_id)))


@blueprint.operation(
    "PATCH",
    "/v1/agents/<agent_id>",
    access=WRITE,
    summary="Update an agent",
    response=ResponseSpec(200, "The updated agent.", AgentView),
    body=AgentPatch,
    conditional=True,
)
def change_agent(context: RequestContext, agent_id: UUID, body: Input) -> Response:
    """Fields that you omit keep their values."""
    with context.writing() as session:
        changed = agents.change(
            session, agent_id, body.given(), context.actor, lambda agent: require_match(shape(agent))
        )
        agent = shape(changed)
    return write_tagged(agent)


@blueprint.operation(
    "DELETE",
    "/v1/agents/<agent_id>",
    access=WRITE,
    summary="Delete an agent",
    response=ResponseSpec(204, "The agent was deleted."),
    conditional=True,
)
def delete_agent(context: RequestContext, agent_id: UUID) -> Response:
    """Widget keys that are pinned to the agent reject all visitors from then on."""
    with context.writing() as session:
        agents.delete(session, agent_id, context.actor, lambda agent: require_match(shape(agent)))
    return Response(status=204)


@blueprint.operation(
    "GET",
    "/v1/agents/<agent_id>/widget-settings",
    access=READ,
    summary="Retrieve an agent's widget settings",
    response=ResponseSpec(200, "The widget settings.", AgentWidgetSettingsView),
    conditional=True,
)
def read_agent_widget_settings(context: RequestContext, agent_id: UUID) -> Response:
    """For a new agent, the widget is disabled."""
    with context.reading() as session:
        return write_tagged(widget_shape(agents.read(session, agent_id)))


@blueprint.operation(
    "PATCH",
    "/v1/agents/<agent_id>/widget-settings",
    access=WRITE,
    summary="Update an agent's widget settings",
    response=ResponseSpec(200, "The updated widget settings.", AgentWidgetSettingsView),
    body=AgentWidgetSettingsPatch,
    max_body_bytes=8 * 1024,
    conditional=True,
)
def change_agent_widget_settings(context: RequestContext, agent_id: UUID, body: AgentWidgetSettingsPatch) -> Response:
    """Fields that you omit keep their values. The update applies to new visitor sessions."""
    columns = {"widget_enabled": "widget_enabled", "auth_mode": "widget_auth_mode"}
    fields = {columns[name]: value for name, value in body.given().items()}
    with context.writing() as session:
        changed = agents.change(
            session, agent_id, fields, context.actor, lambda agent: require_match(widget_shape(agent))
        )
        settings = widget_shape(changed)
    return write_tagged(settings)


def shape(agent: Agent) -> dict[str, Any]:
    """An agent as the API returns it."""
    return fields_of(agent, _FIELDS)


def widget_shape(agent: Agent) -> dict[str, Any]:
    """An agent's widget settings as the API returns them."""
    return {"widget_enabled": agent.widget_enabled, "auth_mode": agent.widget_auth_mode}
