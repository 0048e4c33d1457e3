"""Every call there is, as a value: what to send and how to read the answer. Both clients make the same ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from kataven.client import models
from kataven.client.errors import ArgumentError, IdError, UnexpectedResponse
from kataven.client.models import Page
from kataven.client.reading import read

Result = TypeVar("Result")
Model = TypeVar("Model")

Id = str | UUID

_ETAG = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is read from."""

    body: Any
    etag: str | None
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[Result]):
    """One request, and what its answer becomes. `read` raises UnexpectedResponse."""

    method: str
    path: str
    read: Callable[[Answer], Result]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    if_match: str | None = None

    def __post_init__(self) -> None:
        # As a header it would fail on its way, and look like a connection that did.
        if self.if_match is not None and not (isinstance(self.if_match, str) and _ETAG.fullmatch(self.if_match)):
            raise ArgumentError("if_match is an ETag as it was given out, with its quotes: `agent.etag`, not the agent")
        for name, value in (self.body or {}).items():
            if not _is_json(value):
                raise ArgumentError(f"{name} can't be sent as JSON: use strings, numbers, True, False, None and lists")


def _is_json(value: Any) -> bool:
    try:
        json.dumps(
            value, ensure_ascii=False, allow_nan=False
        ).encode()  # as it will be sent: no NaN, no half characters
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def me() -> ApiRequest[models.Me]:
    return ApiRequest("GET", "/me", lambda answer: read(models.Me, answer.body))


def agents_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.Agent]]:
    return _page("/agents", models.Agent, cursor, limit)


def create_agent(fields: Mapping[str, Any]) -> ApiRequest[models.Agent]:
    return ApiRequest("POST", "/agents", _tagged(models.Agent), body=fields)


def get_agent(agent_id: Id) -> ApiRequest[models.Agent]:
    return ApiRequest("GET", _agent(agent_id), _tagged(models.Agent))


def update_agent(agent_id: Id, fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.Agent]:
    return ApiRequest("PATCH", _agent(agent_id), _tagged(models.Agent), body=fields, if_match=if_match)


def delete_agent(agent_id: Id, if_match: str | None) -> ApiRequest[None]:
    return ApiRequest("DELETE", _agent(agent_id), lambda _: None, if_match=if_match)


def get_agent_widget_settings(agent_id: Id) -> ApiRequest[models.AgentWidgetSettings]:
    return ApiRequest("GET", f"{_agent(agent_id)}/widget-settings", _tagged(models.AgentWidgetSettings))


def update_agent_widget_settings(
    agent_id: Id, fields: Mapping[str, Any], if_match: str | None
) -> ApiRequest[models.AgentWidgetSettings]:
    path = f"{_agent(agent_id)}/widget-settings"
    return ApiRequest("PATCH", path, _tagged(models.AgentWidgetSettings), body=fields, if_match=if_match)


def widget_keys_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.WidgetKey]]:
    return _page("/widget-keys", models.WidgetKey, cursor, limit)


def create_widget_key(
    name: str, domain_allowlist: Sequence[str], agent_id: Id | None
) -> ApiRequest[models.NewWidgetKey]:
    fields = {"name": name, "domain_allowlist": domain_allowlist, "agent_id": agent_id}
    return ApiRequest("POST", "/widget-keys", _tagged(models.NewWidgetKey), body=_key_fields(fields))


def get_widget_key(key_id: Id) -> ApiRequest[models.WidgetKey]:
    return ApiRequest("GET", _widget_key(key_id), _tagged(models.WidgetKey))


def update_widget_key(key_id: Id, fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.WidgetKey]:
    return ApiRequest(
        "PATCH", _widget_key(key_id), _tagged(models.WidgetKey), body=_key_fields(fields), if_match=if_match
    )


def delete_widget_key(key_id: Id, if_match: str | None) -> ApiRequest[models.RemovedWidgetKey]:
    return ApiRequest(
        "DELETE", _widget_key(key_id), lambda answer: read(models.RemovedWidgetKey, answer.body), if_match=if_match
    )


def get_widget_settings() -> ApiRequest[models.WidgetSettings]:
    return ApiRequest("GET", "/widget-settings", _tagged(models.WidgetSettings))


def update_widget_settings(fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.WidgetSettings]:
    return ApiRequest("PATCH", "/widget-settings", _tagged(models.WidgetSettings), body=fields, if_match=if_match)


def api_keys_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.ApiKey]]:
    return _page("/api-keys", models.ApiKey, cursor, limit)


def require_progress(cursor: str | None, page: Page[Any]) -> str | None:
    """The next page's cursor. Raises UnexpectedResponse if it is this page's own: that list would have no end."""
    if page.next_cursor is not None and page.next_cursor == cursor:
        raise UnexpectedResponse("The answer links to itself as the next page.")
    return page.next_cursor


def _page(path: str, model: type[Model], cursor: str | None, limit: int | None) -> ApiRequest[Page[Model]]:
    query = {name: str(value) for name, value in (("limit", limit), ("cursor", cursor)) if value is not None}

    def read_page(answer: Answer) -> Page[Model]:
        if not isinstance(answer.body, list):
            raise UnexpectedResponse("The answer should be a list and is something else.")
        return Page(tuple(read(model, item) for item in answer.body), answer.next_cursor)

    return ApiRequest("GET", path, read_page, query)


def _tagged(model: type[Model]) -> Callable[[Answer], Model]:
    return lambda answer: read(model, answer.body, etag=answer.etag)


def _key_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """As they are sent. Raises ArgumentError for a text that is given as a list: each letter would be an entry."""
    sent = dict(fields)
    if "domain_allowlist" in sent:
        given = sent["domain_allowlist"]
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ArgumentError('domain_allowlist is a list, as in ["acme.com"]')
        sent["domain_allowlist"] = list(given)
    if sent.get("agent_id") is not None:
        sent["agent_id"] = _id(sent["agent_id"])
    return sent


def _agent(agent_id: Id) -> str:
    return f"/agents/{_id(agent_id)}"


def _widget_key(key_id: Id) -> str:
    return f"/widget-keys/{_id(key_id)}"


def _id(given: Id) -> str:
    """Nothing but a UUID gets into a path. Raises IdError."""
    try:
        return str(UUID(str(given)))
    except ValueError:
        raise IdError("an id is a UUID, as in `agent.id`") from None
