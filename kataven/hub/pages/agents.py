"""Agents: the list, and the editor for instructions, voice and access."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents
from kataven.account.errors import NotFound
from kataven.account.models import (
    Agent,
    AgentStatus,
    AuthMode,
    Category,
    GreetingMode,
    VoiceProvider,
    WidgetAuthMode,
)
from kataven.account.paging import Page
from kataven.hub.edits import CHECKBOX, SEEN, FieldLabel, read_edit, seen_of
from kataven.hub.page_blueprint import MANAGERS, MEMBERS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.paging import page_links, range_label, requested_position
from kataven.hub.session_middleware import save_session
from kataven.web.inputs.agents import AgentInput
from kataven.web.schema import read_id

blueprint = PageBlueprint("agents", __name__, "agent")

PAGE_SIZE = 50
MAX_TEXT_LENGTH, MAX_NAME_LENGTH = 200, 200
MAX_SUGGESTED = 30
"""How many language models and voices the editor suggests: those that the account's agents use."""
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


@dataclass(frozen=True, slots=True)
class AgentFilterChip:
    """A filter by status, with the number of agents."""

    label: str
    path: str
    count: int
    is_chosen: bool


@blueprint.page("/agents", MEMBERS)
def show_agents(hub_request: HubRequest) -> AnyResponse:
    text, status = request.args.get("q", "").strip(), _status(request.args.get("status", ""))
    can_match = "\x00" not in text and len(text) <= MAX_TEXT_LENGTH
    page: Page[Agent] = Page((), None)
    counts: Mapping[str, int] = {}
    position = ""
    if can_match:
        with hub_request.reading() as session:
            page = agents.search(session, PAGE_SIZE, requested_position(), text, status)
            position = range_label(session, Agent, page, *agents.conditions(text, status))
            counts = agents.count_by_status(session, text)
    return render(
        "agents.html",
        agents=page.rows,
        links=page_links(page),
        range_label=position,
        chips=_chips(text, status, counts),
        chosen={"q": text, "status": status or ""},
    )


def _status(text: str) -> AgentStatus | None:
    return AgentStatus(text) if text in set(AgentStatus) else None


def _chips(text: str, chosen: AgentStatus | None, counts: Mapping[str, int]) -> list[AgentFilterChip]:
    """All agents, and each status that agents have."""
    query = {"q": text} if text else {}
    chips = [AgentFilterChip("All", _list_path(query), sum(counts.values()), chosen is None)]
    for status, label in CHOICES["status"]:
        if counts.get(status) or status == chosen:
            path = _list_path({**query, "status": status})
            chips.append(AgentFilterChip(label, path, counts.get(status, 0), status == chosen))
    return chips


def _list_path(query: Mapping[str, str]) -> str:
    return f"/agents?{urlencode(query)}" if query else "/agents"


@blueprint.page("/agents/new", MANAGERS)
def show_new_agent(hub_request: HubRequest) -> AnyResponse:
    """The editor, with the defaults or with the values of the agent in `?from=`."""
    values = AgentForm(name="-").model_dump() | {"name": ""}
    if "from" in request.args:
        agent_id = read_id(request.args["from"])
        if agent_id is None:
            raise NotFound("agent")
        with hub_request.reading() as session:
            agent = agents.read(session, agent_id)
        name = f"Copy of {agent.name}"[:MAX_NAME_LENGTH]
        values = _values(agent) | {"name": name, "status": AgentStatus.DRAFT}
    return _editor(hub_request, None, values, {})


def _refill_new(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _editor(hub_request, None, _submitted(submitted), {})


@blueprint.form("/agents/new", MANAGERS, _refill_new)
def create_agent(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(hub_request, None, _submitted(request.form), problems)
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
    return _editor(hub_request, agent, values | {SEEN: seen_of(values)}, {})


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    return _editor(hub_request, agent, _submitted(submitted), {})


@blueprint.form("/agents/<agent_id>", MANAGERS, _refill)
def change_agent(hub_request: HubRequest, agent_id: UUID) -> AnyResponse:
    with hub_request.reading() as session:
        agent = agents.read(session, agent_id)
    form, problems = read_form(AgentForm, **_parsed())
    if form is None:
        return _editor(hub_request, agent, _submitted(request.form), problems)
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


def _editor(
    hub_request: HubRequest, agent: Agent | None, values: Mapping[str, Any], problems: Mapping[str, str]
) -> AnyResponse:
    with hub_request.reading() as session:
        models, voices = agents.used_values(session, MAX_SUGGESTED)
    return render(
        "agent.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        agent=agent,
        values=values,
        problems=problems,
        choices=CHOICES,
        models=sorted({*models, AgentForm(name="-").llm_model}),
        voices=voices,
        is_unsaved=bool(problems) or hub_request.page_notice is not None,  # an error, or a form that is shown again
    )
