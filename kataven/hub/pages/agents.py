"""Agents: the list, and the editor for instructions, voice and access."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents
from kataven.account.models import (
    Agent,
    AgentStatus,
    AuthMode,
    Category,
    GreetingMode,
    VoiceProvider,
    WidgetAuthMode,
)
from kataven.hub.edits import CHECKBOX, SEEN, FieldLabel, read_edit, seen_of
from kataven.hub.page_blueprint import MANAGERS, MEMBERS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.paging import page_links, range_label, requested_position
from kataven.hub.session_middleware import save_session
from kataven.web.inputs.agents import AgentInput

blueprint = PageBlueprint("agents", __name__, "agent")

PAGE_SIZE = 50
CHECKBOXES = ("ringing_enabled", "background_audio_enabled", "noise_suppression_enabled", "widget_enabled")
OPTIONAL = ("description", "system_prompt", "greeting_message", "voice_id")


class AgentForm(AgentInput):
    """An agent, with its widget settings."""

    widget_enabled: bool = False
    widget_auth_mode: WidgetAuthMode = WidgetAuthMode.GUEST


def choices_of(values: type[StrEnum]) -> list[tuple[str, str]]:
    """Labels for the values: `Customer support` for `customer_support`."""
    return [(value, str(value).replace("_", " ").capitalize()) for value in values]


CHOICES = {
    "category": choices_of(Category),
    "status": choices_of(AgentStatus),
    "greeting_mode": choices_of(GreetingMode),
    "voice_provider": choices_of(VoiceProvider),
    "auth_mode": choices_of(AuthMode),
    "widget_auth_mode": choices_of(WidgetAuthMode),
}


FIELD_LABELS = {
    "name": FieldLabel("Name"),
    "description": FieldLabel("Description"),
    "category": FieldLabel("Category", CHOICES["category"]),
    "status": FieldLabel("Status", CHOICES["status"]),
    "system_prompt": FieldLabel("Instructions"),
    "greeting_message": FieldLabel("Greeting"),
    "greeting_mode": FieldLabel("During the greeting", CHOICES["greeting_mode"]),
    "llm_model": FieldLabel("Language model"),
    "voice_provider": FieldLabel("Voice provider", CHOICES["voice_provider"]),
    "voice_id": FieldLabel("Voice ID"),
    "auth_mode": FieldLabel("Access outside the widget", CHOICES["auth_mode"]),
    "ringing_enabled": FieldLabel("Ring before the agent answers", CHECKBOX),
    "noise_suppression_enabled": FieldLabel("Suppress background noise of the caller", CHECKBOX),
    "background_audio_enabled": FieldLabel("Play a background sound", CHECKBOX),
    "background_audio_volume": FieldLabel("Background volume"),
    "widget_enabled": FieldLabel("Allow this agent in the widget", CHECKBOX),
    "widget_auth_mode": FieldLabel("Widget visitors", CHOICES["widget_auth_mode"]),
}
"""The labels of the editor's fields."""


@blueprint.page("/agents", MEMBERS)
def show_agents(hub_request: HubRequest) -> AnyResponse:
    with hub_request.reading() as session:
        page = agents.listing(session, PAGE_SIZE, requested_position())
        position = range_label(session, Agent, page)
    return render("agents.html", agents=page.rows, links=page_links(page), range_label=position)


@blueprint.page("/agents/new", MANAGERS)
def show_new_agent(hub_request: HubRequest) -> AnyResponse:
    return _editor(None, AgentForm(name="-").model_dump() | {"name": ""}, {})


def _refill_new(_: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _editor(None, _submitted(submitted), {})


@blueprint.form("/agents/new", MANAGERS, _refill_new)
def create_agent(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(None, _submitted(request.form), problems)
    with hub_request.writing() as session:
        agent = agents.create(session, form.model_dump(), hub_request.actor)
        agent_id = agent.id
    save_session(hub_request, hub_request.session.with_(notice=f"Created “{form.name}”."))
    return see_other(f"/agents/{agent_id}")


@blueprint.page("/agents/<agent_id>", MEMBERS)
def show_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    values = _values(agent)
    return _editor(agent, values | {SEEN: seen_of(values)}, {})


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    return _editor(agent, _submitted(submitted), {})


@blueprint.form("/agents/<agent_id>", MANAGERS, _refill)
def change_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(agent, _submitted(request.form), problems)
    edit = read_edit(form.model_dump(), FIELD_LABELS)
    with hub_request.writing() as session:
        agents.change(session, agent_id, form.model_dump(), hub_request.actor, lambda row: edit.check(_values(row)))
    save_session(hub_request, hub_request.session.with_(notice=f"Saved “{form.name}”."))
    return see_other(f"/agents/{agent_id}")


@blueprint.form("/agents/<agent_id>/delete", MANAGERS)
def delete_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.writing() as session:
        name = agents.read(session, agent_id).name
        agents.delete(session, agent_id, hub_request.actor)
    save_session(
        hub_request,
        hub_request.session.with_(notice=f"Deleted “{name}”. Widget keys for this agent no longer work."),
    )
    return see_other("/agents")


def _values(agent: Agent) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in AgentForm.model_fields}


def _parsed() -> dict[str, Any]:
    """The fields that forms encode differently: empty text fields are None, and unchecked checkboxes aren't sent."""
    checked: dict[str, Any] = {name: bool(request.form.get(name)) for name in CHECKBOXES}
    return checked | {name: request.form.get(name, "").replace("\r\n", "\n") or None for name in OPTIONAL}


def _submitted(form: Mapping[str, str]) -> dict[str, Any]:
    return dict(form.items()) | {name: bool(form.get(name)) for name in CHECKBOXES}


def _editor(agent: Agent | None, values: Mapping[str, Any], problems: Mapping[str, str]) -> AnyResponse:
    status = HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK
    return render("agent.html", status, agent=agent, values=values, problems=problems, choices=CHOICES)
