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
from kataven.hub.gate import keep
from kataven.hub.page import MANAGERS, MEMBERS, Desk, Visit, go, read_form, show
from kataven.hub.paging import asked_position, links, place
from kataven.web.inputs.agents import AgentInput

desk = Desk("agents", __name__, "agent")

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


@desk.shows("/agents", MEMBERS)
def show_agents(visit: Visit) -> AnyResponse:
    with visit.reading() as session:
        page = agents.listing(session, PAGE_SIZE, asked_position())
        where = place(session, Agent, page)
    return show("agents.html", agents=page.rows, links=links(page), place=where)


@desk.shows("/agents/new", MANAGERS)
def begin_agent(visit: Visit) -> AnyResponse:
    return _editor(None, AgentForm(name="-").model_dump() | {"name": ""}, {})


@desk.takes("/agents/new", MANAGERS)
def make_agent(visit: Visit) -> AnyResponse:
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(None, _typed(), problems)
    with visit.writing() as session:
        agent = agents.create(session, form.model_dump(), visit.actor)
        agent_id = agent.id
    keep(visit, visit.session.with_(notice=f"“{form.name}” is made."))
    return go(f"/agents/{agent_id}")


@desk.shows("/agents/<agent_id>", MEMBERS)
def show_agent(visit: Visit, agent_id: UUID) -> AnyResponse:
    with visit.reading() as session:
        agent = agents.read(session, agent_id)
    return _editor(agent, {name: getattr(agent, name) for name in AgentForm.model_fields}, {})


@desk.takes("/agents/<agent_id>", MANAGERS)
def change_agent(visit: Visit, agent_id: UUID) -> AnyResponse:
    with visit.reading() as session:
        agent = agents.read(session, agent_id)
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(agent, _typed(), problems)
    with visit.writing() as session:
        agents.change(session, agent_id, form.model_dump(), visit.actor)
    keep(visit, visit.session.with_(notice=f"“{form.name}” is saved."))
    return go(f"/agents/{agent_id}")


@desk.takes("/agents/<agent_id>/delete", MANAGERS)
def delete_agent(visit: Visit, agent_id: UUID) -> AnyResponse:
    with visit.writing() as session:
        name = agents.read(session, agent_id).name
        agents.delete(session, agent_id, visit.actor)
    keep(
        visit, visit.session.with_(notice=f"“{name}” is deleted. Widget keys that were pinned to it serve nothing now.")
    )
    return go("/agents")


def _parsed() -> dict[str, Any]:
    """What a form sends in its own way: nothing for an empty box, and no field for a box that is not ticked."""
    checked: dict[str, Any] = {name: name in request.form for name in CHECKBOXES}
    return checked | {name: request.form.get(name, "").replace("\r\n", "\n") or None for name in OPTIONAL}


def _typed() -> dict[str, Any]:
    return request.form.to_dict() | {name: name in request.form for name in CHECKBOXES}


def _editor(agent: Agent | None, values: Mapping[str, Any], problems: Mapping[str, str]) -> AnyResponse:
    status = HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK
    return show("agent.html", status, agent=agent, values=values, problems=problems, choices=CHOICES)
