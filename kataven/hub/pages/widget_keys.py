"""Settings → Widget keys: the domains that may embed the widget, and the script tag for their pages."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents, audit, widget_keys
from kataven.account.models import Agent, WidgetKey
from kataven.hub.edits import SEEN, FieldLabel, as_text, read_edit, seen_of
from kataven.hub.formatting import describe_change, describe_entry, describe_revocation, with_receipt
from kataven.hub.page_blueprint import (
    MANAGERS,
    MEMBERS,
    HubRequest,
    PageBlueprint,
    new_form_id,
    read_form,
    render,
    see_other,
)
from kataven.hub.paging import page_links, range_label, requested_position
from kataven.hub.session_middleware import hub_services, save_session
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.issuer import Seed, UnknownPepper
from kataven.identity.token import TokenKind
from kataven.web.idempotency import issue_widget_key
from kataven.web.inputs.widget_keys import WidgetKeyInput
from kataven.web.receipts import record_intent, revoke_credentials
from kataven.web.schema import read_id
from kataven.widget import allowlist
from kataven.widget.embed import snippet

blueprint = PageBlueprint("widget-keys", __name__, "widget key")

PAGE_SIZE = 50
MAX_LISTED_AGENTS = 50
"""The number of agents in the form's list. Other agents can be entered by name or id."""
MAX_NAME_LENGTH = 200
HOME = "/settings/widget-keys"


@blueprint.page(HOME, MEMBERS)
def show_widget_keys(hub_request: HubRequest) -> AnyResponse:
    return _list(hub_request)


def _refill_new(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _list(hub_request, submitted)


@blueprint.form(HOME, MANAGERS, _refill_new)
def create_widget_key(hub_request: HubRequest) -> AnyResponse:
    form, problems = _read(hub_request)
    if form is None:
        return _list(hub_request, request.form, problems)
    if not hub_services().sessions.use_form(request.form.get("form_id", "")):
        return render("widget_key_shown.html", HTTPStatus.CONFLICT)
    issued = issue_widget_key(hub_request)
    with hub_request.writing() as session:
        key = widget_keys.issue(session, form.name, issued, form.domain_allowlist, form.agent_id, hub_request.actor)
        key_id, blocked = key.id, not key.domain_allowlist
        is_kept = widget_keys.has_seeds(session)
    script = snippet(hub_request.services.widget.public_url, issued.text)
    return render(
        "widget_key_created.html",
        HTTPStatus.CREATED,
        name=form.name,
        key_id=key_id,
        script=script,
        blocked=blocked,
        is_kept=is_kept,
    )


@blueprint.form(f"{HOME}/explain", MEMBERS, while_typing=True)
def describe_entries(hub_request: HubRequest) -> AnyResponse:
    """Explain each line of the domain list while the user types. Read-only; a POST because lists exceed URLs."""
    lines = request.form.get("entries", "")[: allowlist.MAX_ENTRIES * allowlist.MAX_ENTRY_LENGTH].splitlines()
    return jsonify([_described(line.strip()) for line in lines[: allowlist.MAX_ENTRIES] if line.strip()])


@blueprint.page(f"{HOME}/<key_id>", MEMBERS)
def show_widget_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """The editor. `?allow=` adds an entry to the list of domains in the form, without saving it."""
    return _editor(hub_request, key_id, allow=request.args.get("allow"))


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _editor(hub_request, key_id, submitted)


@blueprint.form(f"{HOME}/<key_id>", MANAGERS, _refill)
def change_widget_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    form, problems = _read(hub_request)
    if form is None:
        return _editor(hub_request, key_id, request.form, problems)
    edit = read_edit(form.model_dump(), _words(hub_request))
    return _change(hub_request, key_id, form.model_dump(), "Saved", lambda key: edit.check(_saved(key)))


@blueprint.form(f"{HOME}/<key_id>/disable", MANAGERS)
def disable_widget_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _change(hub_request, key_id, {"disabled": True}, "Disabled")


@blueprint.form(f"{HOME}/<key_id>/enable", MANAGERS)
def enable_widget_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _change(hub_request, key_id, {"disabled": False}, "Enabled")


@blueprint.form(f"{HOME}/<key_id>/remove", MANAGERS)
def remove_widget_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    with hub_request.writing() as session:
        name = widget_keys.read(session, key_id).name
        event, generation = widget_keys.remove(session, key_id, hub_request.actor)
        intent = record_intent(hub_request, str(key_id), generation=generation)
    receipt = revoke_credentials(hub_request, intent, event)
    notice = with_receipt(f"Deleted “{name}”: {describe_revocation(receipt)}.", receipt)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(HOME)


def _change(
    hub_request: HubRequest,
    key_id: UUID,
    fields: Mapping[str, Any],
    done: str,
    condition: widget_keys.Condition | None = None,
) -> AnyResponse:
    with hub_request.writing() as session:
        change = widget_keys.change(session, key_id, fields, hub_request.actor, condition)
        name, event = change.key.name, change.event_id
        disabled = bool(fields.get("disabled"))
        intent = None
        if change.revokes_access or disabled:
            intent = record_intent(hub_request, str(key_id), revoked=disabled, generation=change.key.generation)
    notice = f"{done} “{name}”."
    if intent is not None:
        describe = describe_revocation if fields.get("disabled") else describe_change
        receipt = revoke_credentials(hub_request, intent, event)
        notice = with_receipt(f"{done} “{name}”: {describe(receipt)}.", receipt)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(f"{HOME}/{key_id}")


def _read(hub_request: HubRequest) -> tuple[WidgetKeyInput | None, dict[str, str]]:
    lines = [line.strip() for line in request.form.get("domain_allowlist", "").splitlines()]
    chosen, problem = _chosen_agent(hub_request)
    form, problems = read_form(
        WidgetKeyInput, domain_allowlist=[line for line in lines if line], agent_id=read_id(chosen) if chosen else None
    )
    return (None, {**problems, **problem}) if problem else (form, problems)


def _chosen_agent(hub_request: HubRequest) -> tuple[str, dict[str, str]]:
    """The id of the selected agent (empty for none), or the error by field.

    An agent that was entered takes precedence over the selected one: the list contains only the newest agents.
    """
    submitted, chosen = request.form.get("agent", "").strip(), request.form.get("agent_id", "")
    if not submitted:
        agent_id = read_id(chosen)
        with hub_request.reading() as session:
            known = agents.names(session, [agent_id] if agent_id else [])
        return chosen, {} if not chosen or known else {"agent_id": "Choose an agent of this account"}
    found = _find_agents(hub_request, submitted)
    if not found:
        return "", {"agent": "No agent has this name or ID"}
    if len(found) > 1:
        return "", {"agent": f"{len(found)} or more agents match. Choose one from the list above, or enter its ID"}
    return str(found[0].id), {}


def _find_agents(hub_request: HubRequest, submitted: str) -> Sequence[Agent]:
    if not submitted or "\x00" in submitted or len(submitted) > MAX_NAME_LENGTH:
        return ()
    with hub_request.reading() as session:
        return agents.find(session, submitted, MAX_LISTED_AGENTS)


def _list(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with hub_request.reading() as session:
        page = widget_keys.listing(session, PAGE_SIZE, requested_position())
        position = range_label(session, WidgetKey, page)
        names = agents.names(session, {key.agent_id for key in page.rows if key.agent_id is not None})
    return render(
        "widget_keys.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        keys=page.rows,
        links=page_links(page),
        range_label=position,
        agents=_choices(hub_request, None, problems),
        names=names,
        submitted=submitted or {},
        problems=problems or {},
        form_id=(submitted or {}).get("form_id") or new_form_id(),
    )


def _editor(
    hub_request: HubRequest,
    key_id: UUID,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    allow: str | None = None,
) -> AnyResponse:
    with hub_request.reading() as session:
        key = widget_keys.read(session, key_id)
        seed = widget_keys.seed_of(session, key_id)
        disabled_at = {} if key.disabled_at is None else {key.id: key.disabled_at}
        revoked_by = audit.revoked_by(session, "widget_key.disabled", disabled_at)
    values = submitted or _values(key)
    entry = None if allow is None or not hub_request.may_manage else entry_of(allow)
    if entry is not None and entry not in key.domain_allowlist:
        values = {**values, "domain_allowlist": "\n".join([*key.domain_allowlist, entry])}
    else:
        entry = None
    return render(
        "widget_key.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        key=key,
        script=None if seed is None else _script(hub_request, key, seed),
        revoked_by=revoked_by.get(str(key.id)),
        explained=[_described(entry) for entry in key.domain_allowlist],
        agents=_choices(hub_request, key.agent_id, problems),
        submitted=values,
        added=entry,
        problems=problems or {},
    )


def entry_of(origin: str) -> str | None:
    """The entry of a list of domains that allows an origin; None if no entry can."""
    parsed = allowlist.parse_origin(origin)
    if parsed is None:
        return None
    try:
        return allowlist.parse_new_entry(str(parsed)).text
    except allowlist.InvalidEntry:
        return None


def _script(hub_request: HubRequest, key: WidgetKey, seed: Seed) -> str | None:
    """The script tag of a key, derived from its seed. None if the pepper was retired or the issuer is unavailable."""
    issuer = hub_request.services.issuer
    try:
        text = issuer.issue(TokenKind.WIDGET_KEY, hub_request.account.account, seed).text
        candidates = issuer.candidates(text)
    except (UnknownPepper, VerifierUnavailable):
        return None
    # An auth-service of an older release ignores the seed, and returns a key that was never stored.
    if not any(hmac.compare_digest(candidate.digest, key.key_hash) for candidate in candidates):
        return None
    return snippet(hub_request.services.widget.public_url, text)


def _values(key: WidgetKey) -> dict[str, str]:
    saved = _saved(key)
    return {name: as_text(value) for name, value in saved.items()} | {SEEN: seen_of(saved)}


def _saved(key: WidgetKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in WidgetKeyInput.model_fields}


def _words(hub_request: HubRequest) -> dict[str, FieldLabel]:
    """The labels of the editor's fields."""
    submitted = request.form.get("agent_id", "")
    return {
        "name": FieldLabel("Name"),
        "domain_allowlist": FieldLabel("Allowed domains"),
        "agent_id": FieldLabel("Agent", _choices(hub_request, read_id(submitted) if submitted else None, None)),
    }


def _choices(hub_request: HubRequest, pinned: UUID | None, problems: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """The choices: any agent, the key's agent, and the newest agents or those that match the entered text."""
    matching = _find_agents(hub_request, request.form.get("agent", "").strip()) if "agent" in (problems or {}) else ()
    with hub_request.reading() as session:
        newest = agents.listing(session, MAX_LISTED_AGENTS, None).rows
        names = agents.names(session, [] if pinned is None else [pinned])
    choices = [("", "Any agent of this account")]
    if pinned is not None:
        choices.append((str(pinned), names.get(pinned, "A deleted agent")))
    offered = [(str(agent.id), _agent_name(agent)) for agent in matching or newest]
    return choices + [choice for choice in offered if choice[0] != str(pinned)]


def _agent_name(agent: Agent) -> str:
    return f"{agent.name} ({agent.status})"


def _described(text: str) -> dict[str, Any]:
    try:
        return {"entry": text, "good": True, "words": describe_entry(allowlist.parse_new_entry(text))}
    except allowlist.InvalidEntry as error:
        return {"entry": text, "good": False, "words": str(error)}
