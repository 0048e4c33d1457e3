"""Agents: a list, and an editor for what each says, with which voice, and to whom."""

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
from kataven.hub.edits import BOX, SEEN, Words, read_edit, seen_of
from kataven.hub.page_blueprint import MANAGERS, MEMBERS, HubRequest, PageBlueprint, go, read_form, show
from kataven.hub.paging import asked_position, links, place
from kataven.hub.session_middleware import keep
from kataven.web.inputs.agents import AgentInput

blueprint = PageBlueprint("agents", __name__, "agent")

PAGE_SIZE = 50
CHECKBOXES = ("ringing_enabled", "background_audio_enabled", "noise_suppression_enabled", "widget_enabled")
OPTIONAL = ("description", "system_prompt", "greeting_message", "voice_id")


class AgentForm(AgentInput):
    """An agent with who may talk to it on a web page."""

    widget_enabled: bool = False
    widget_auth_mode: WidgetAuthMode = WidgetAuthMode.GUEST


def choices_of(values: type[StrEnum]) -> list[tuple[str, str]]:
    """`customer_support` as people read it."""
    return [(value, str(value).replace("_", " ").capitalize()) for value in values]


CHOICES = {
    "category": choices_of(Category),
    "status": choices_of(AgentStatus),
    "greeting_mode": choices_of(GreetingMode),
    "voice_provider": choices_of(VoiceProvider),
    "auth_mode": choices_of(AuthMode),
    "widget_auth_mode": choices_of(WidgetAuthMode),
}


WORDS = {
    "name": Words("Name"),
    "description": Words("Description"),
    "category": Words("Category", CHOICES["category"]),
    "status": Words("Status", CHOICES["status"]),
    "system_prompt": Words("Instructions"),
    "greeting_message": Words("Greeting"),
    "greeting_mode": Words("While it greets", CHOICES["greeting_mode"]),
    "llm_model": Words("Language model"),
    "voice_provider": Words("Voice provider", CHOICES["voice_provider"]),
    "voice_id": Words("Voice"),
    "auth_mode": Words("Elsewhere than on a web page", CHOICES["auth_mode"]),
    "ringing_enabled": Words("It rings before it answers", BOX),
    "noise_suppression_enabled": Words("Noise is suppressed", BOX),
    "background_audio_enabled": Words("There is a background sound", BOX),
    "background_audio_volume": Words("Its volume"),
    "widget_enabled": Words("It may be embedded in web pages", BOX),
    "widget_auth_mode": Words("Visitors of those pages", CHOICES["widget_auth_mode"]),
}
"""As the editor calls its fields."""


@blueprint.page("/agents", MEMBERS)
def show_agents(hub_request: HubRequest) -> AnyResponse:
    with hub_request.reading() as session:
        page = agents.listing(session, PAGE_SIZE, asked_position())
        where = place(session, Agent, page)
    return show("agents.html", agents=page.rows, links=links(page), place=where)


@blueprint.page("/agents/new", MANAGERS)
def begin_agent(hub_request: HubRequest) -> AnyResponse:
    return _editor(None, AgentForm(name="-").model_dump() | {"name": ""}, {})


def _new_again(_: HubRequest, typed: Mapping[str, str]) -> AnyResponse:
    return _editor(None, _typed(typed), {})


@blueprint.form("/agents/new", MANAGERS, _new_again)
def make_agent(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(None, _typed(request.form), problems)
    with hub_request.writing() as session:
        agent = agents.create(session, form.model_dump(), hub_request.actor)
        agent_id = agent.id
    keep(hub_request, hub_request.session.with_(notice=f"“{form.name}” is made."))
    return go(f"/agents/{agent_id}")


@blueprint.page("/agents/<agent_id>", MEMBERS)
def show_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    values = _values(agent)
    return _editor(agent, values | {SEEN: seen_of(values)}, {})


def _again(hub_request: HubRequest, typed: Mapping[str, str], agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    return _editor(agent, _typed(typed), {})


@blueprint.form("/agents/<agent_id>", MANAGERS, _again)
def change_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(agent, _typed(request.form), problems)
    edit = read_edit(form.model_dump(), WORDS)
    with hub_request.writing() as session:
        agents.change(session, agent_id, form.model_dump(), hub_request.actor, lambda row: edit.check(_values(row)))
    keep(hub_request, hub_request.session.with_(notice=f"“{form.name}” is saved."))
    return go(f"/agents/{agent_id}")


@blueprint.form("/agents/<agent_id>/delete", MANAGERS)
def delete_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.writing() as session:
        name = agents.read(session, agent_id).name
        agents.delete(session, agent_id, hub_request.actor)
    keep(
        hub_request,
        hub_request.session.with_(notice=f"“{name}” is deleted. Widget keys that were pinned to it serve nothing now."),
    )
    return go("/agents")


def _values(agent: Agent) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in AgentForm.model_fields}


def _parsed() -> dict[str, Any]:
    """What a form sends in its own way: nothing for an empty box, and no field for a box that is not ticked."""
    checked: dict[str, Any] = {name: bool(request.form.get(name)) for name in CHECKBOXES}
    return checked | {name: request.form.get(name, "").replace("\r\n", "\n") or None for name in OPTIONAL}


def _typed(form: Mapping[str, str]) -> dict[str, Any]:
    return dict(form.items()) | {name: bool(form.get(name)) for name in CHECKBOXES}


def _editor(agent: Agent | None, values: Mapping[str, Any], problems: Mapping[str, str]) -> AnyResponse:
    status = HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK
    return show("agent.html", status, agent=agent, values=values, problems=problems, choices=CHOICES)
