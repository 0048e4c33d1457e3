"""Settings → Widget keys: which pages may carry the widget, and the line to paste into them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents, widget_keys
from kataven.account.errors import NotFound
from kataven.account.models import Agent, WidgetKey
from kataven.hub.gate import front, keep
from kataven.hub.page import MANAGERS, MEMBERS, Desk, Visit, go, new_form_id, read_form, show
from kataven.hub.paging import asked_position, next_link
from kataven.hub.words import entry_in_words, receipt_in_words
from kataven.identity.token import TokenKind
from kataven.web.inputs.widget_keys import WidgetKeyInput
from kataven.web.receipts import begin_ending, end_credentials
from kataven.web.schema import read_id
from kataven.widget import allowlist
from kataven.widget.embed import snippet

desk = Desk("widget-keys", __name__, "widget key")

PAGE_SIZE = 50
MOST_AGENTS = 200
HOME = "/settings/widget-keys"


@desk.shows(HOME, MEMBERS)
def show_widget_keys(visit: Visit) -> AnyResponse:
    return _list(visit)


@desk.takes(HOME, MANAGERS)
def make_widget_key(visit: Visit) -> AnyResponse:
    form, problems = _read(visit)
    if form is None:
        return _list(visit, request.form, problems)
    if not front().sessions.use_form(request.form.get("form_id", "")):
        return show("widget_key_shown.html", HTTPStatus.CONFLICT)
    issued = visit.services.issuer.issue(TokenKind.WIDGET_KEY, visit.account.account)
    with visit.writing() as session:
        key = widget_keys.issue(session, form.name, issued, form.domain_allowlist, form.agent_id, visit.actor)
        key_id, blocked = key.id, not key.domain_allowlist
    script = snippet(visit.services.widget.public_url, issued.text)
    return show(
        "widget_key_made.html", HTTPStatus.CREATED, name=form.name, key_id=key_id, script=script, blocked=blocked
    )


@desk.shows(f"{HOME}/explain", MEMBERS)
def explain_entries(visit: Visit) -> AnyResponse:
    """What each line of the list of pages means, while it is typed."""
    lines = request.args.get("entries", "")[: allowlist.MAX_ENTRIES * allowlist.MAX_ENTRY_LENGTH].splitlines()
    return jsonify([_explained(line.strip()) for line in lines[: allowlist.MAX_ENTRIES] if line.strip()])


@desk.shows(f"{HOME}/<key_id>", MEMBERS)
def show_widget_key(visit: Visit, key_id: UUID) -> AnyResponse:
    return _editor(visit, key_id)


@desk.takes(f"{HOME}/<key_id>", MANAGERS)
def change_widget_key(visit: Visit, key_id: UUID) -> AnyResponse:
    form, problems = _read(visit)
    if form is None:
        return _editor(visit, key_id, request.form, problems)
    return _change(visit, key_id, form.model_dump(), "saved")


@desk.takes(f"{HOME}/<key_id>/disable", MANAGERS)
def disable_widget_key(visit: Visit, key_id: UUID) -> AnyResponse:
    return _change(visit, key_id, {"disabled": True}, "disabled")


@desk.takes(f"{HOME}/<key_id>/enable", MANAGERS)
def enable_widget_key(visit: Visit, key_id: UUID) -> AnyResponse:
    return _change(visit, key_id, {"disabled": False}, "enabled again")


@desk.takes(f"{HOME}/<key_id>/remove", MANAGERS)
def remove_widget_key(visit: Visit, key_id: UUID) -> AnyResponse:
    with visit.writing() as session:
        name = widget_keys.read(session, key_id).name
        event = widget_keys.remove(session, key_id, visit.actor)
        ending = begin_ending(visit, str(key_id))
    receipt = end_credentials(visit, ending, event)
    keep(visit, visit.session.with_(notice=f"“{name}” is removed: {receipt_in_words(receipt)}."))
    return go(HOME)


def _change(visit: Visit, key_id: UUID, fields: Mapping[str, Any], done: str) -> AnyResponse:
    with visit.writing() as session:
        change = widget_keys.change(session, key_id, fields, visit.actor)
        name, event = change.key.name, change.event_id
        ends = change.takes_away or bool(fields.get("disabled"))
        ending = begin_ending(visit, str(key_id)) if ends else None
    words = f"“{name}” is {done}"
    if ending is not None:
        words += f": {receipt_in_words(end_credentials(visit, ending, event))}"
    keep(visit, visit.session.with_(notice=f"{words}."))
    return go(f"{HOME}/{key_id}")


def _read(visit: Visit) -> tuple[WidgetKeyInput | None, dict[str, str]]:
    lines = [line.strip() for line in request.form.get("domain_allowlist", "").splitlines()]
    agent = request.form.get("agent_id", "")
    form, problems = read_form(
        WidgetKeyInput, domain_allowlist=[line for line in lines if line], agent_id=read_id(agent) if agent else None
    )
    if form is not None and agent and not _is_agent(visit, form.agent_id):
        return None, {"agent_id": "Choose one of the account's agents."}
    return form, problems


def _is_agent(visit: Visit, agent_id: UUID | None) -> bool:
    if agent_id is None:
        return False
    try:
        with visit.reading() as session:
            agents.read(session, agent_id)
    except NotFound:
        return False
    return True


def _list(
    visit: Visit, typed: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with visit.reading() as session:
        page = widget_keys.listing(session, PAGE_SIZE, asked_position())
        found = agents.listing(session, MOST_AGENTS, None).rows
    return show(
        "widget_keys.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        keys=page.rows,
        more=next_link(page.next),
        agents=_choices(found),
        names={agent.id: agent.name for agent in found},
        typed=typed or {},
        problems=problems or {},
        form_id=new_form_id(),
    )


def _editor(
    visit: Visit, key_id: UUID, typed: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with visit.reading() as session:
        key = widget_keys.read(session, key_id)
        found = agents.listing(session, MOST_AGENTS, None).rows
    return show(
        "widget_key.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        key=key,
        explained=[_explained(entry) for entry in key.domain_allowlist],
        agents=_choices(found, key),
        typed=typed or _values(key),
        problems=problems or {},
    )


def _values(key: WidgetKey) -> dict[str, str]:
    pinned = "" if key.agent_id is None else str(key.agent_id)
    return {"name": key.name, "domain_allowlist": "\n".join(key.domain_allowlist), "agent_id": pinned}


def _choices(found: Any, key: WidgetKey | None = None) -> list[tuple[str, str]]:
    choices = [("", "Any agent of the account"), *((str(agent.id), _agent_name(agent)) for agent in found)]
    if key is not None and key.agent_id is not None and str(key.agent_id) not in {value for value, _ in choices}:
        choices.append((str(key.agent_id), "An agent that is gone"))
    return choices


def _agent_name(agent: Agent) -> str:
    return f"{agent.name} ({agent.status})"


def _explained(text: str) -> dict[str, Any]:
    try:
        return {"entry": text, "good": True, "words": entry_in_words(allowlist.parse_new_entry(text))}
    except allowlist.InvalidEntry as error:
        return {"entry": text, "good": False, "words": str(error)}
