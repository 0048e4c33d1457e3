"""Declares each API request as a value: what to send, and how to parse the response. Both clients use these values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from kataven.client import models
from kataven.client.errors import ArgumentError, IdError, UnexpectedResponse
from kataven.client.models import Page
from kataven.client.reading import read

Result = TypeVar("Result")
Model = TypeVar("Model")

Id = str | UUID

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_ETAG = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """The parts of an HTTP response that a result is parsed from."""

    body: Any
    etag: str | None
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[Result]):
    """One request. `read` turns its response into a result.

    Raises ArgumentError if `if_match` is not an ETag or `body` cannot be encoded as JSON. `read` raises
    UnexpectedResponse.
    """

    method: str
    path: str
    read: Callable[[ApiResponse], Result]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    if_match: str | None = None
    idempotency_key: str | None = None
    """Set for a request that creates, so that it can be repeated: the API then returns its first response."""

    def __post_init__(self) -> None:
        # httpx2 rejects an invalid header while it sends the request, and that would look like a failed connection.
        if self.if_match is not None and not (isinstance(self.if_match, str) and _ETAG.fullmatch(self.if_match)):
            raise ArgumentError(
                "if_match must be an ETag with its quotes, as the API returned it: pass `agent.etag`, not the agent"
            )
        for name, value in (self.body or {}).items():
            if not _is_json(value):
                raise ArgumentError(
                    f"{name} can't be encoded as JSON: use strings, numbers, True, False, None and lists"
                )


def _is_json(value: Any) -> bool:
    try:
        # The same encoding as httpx2 uses: it rejects NaN and lone surrogates.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def me() -> ApiRequest[models.Me]:
    return ApiRequest("GET", "/me", lambda response: read(models.Me, response.body))


def agents_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.Agent]]:
    return _page("/agents", models.Agent, cursor, limit)


def create_agent(fields: Mapping[str, Any]) -> ApiRequest[models.Agent]:
    return ApiRequest("POST", "/agents", _with_etag(models.Agent), body=fields, idempotency_key=_new_key())


def get_agent(agent_id: Id) -> ApiRequest[models.Agent]:
    return ApiRequest("GET", _agent(agent_id), _with_etag(models.Agent))


def update_agent(agent_id: Id, fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.Agent]:
    return ApiRequest("PATCH", _agent(agent_id), _with_etag(models.Agent), body=fields, if_match=if_match)


def delete_agent(agent_id: Id, if_match: str | None) -> ApiRequest[None]:
    return ApiRequest("DELETE", _agent(agent_id), lambda _: None, if_match=if_match)


def get_agent_widget_settings(agent_id: Id) -> ApiRequest[models.AgentWidgetSettings]:
    return ApiRequest("GET", f"{_agent(agent_id)}/widget-settings", _with_etag(models.AgentWidgetSettings))


def update_agent_widget_settings(
    agent_id: Id, fields: Mapping[str, Any], if_match: str | None
) -> ApiRequest[models.AgentWidgetSettings]:
    path = f"{_agent(agent_id)}/widget-settings"
    return ApiRequest("PATCH", path, _with_etag(models.AgentWidgetSettings), body=fields, if_match=if_match)


def widget_keys_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.WidgetKey]]:
    return _page("/widget-keys", models.WidgetKey, cursor, limit)


def create_widget_key(
    name: str, domain_allowlist: Sequence[str], agent_id: Id | None
) -> ApiRequest[models.NewWidgetKey]:
    fields = {"name": name, "domain_allowlist": domain_allowlist, "agent_id": agent_id}
    return ApiRequest(
        "POST",
        "/widget-keys",
        _with_etag(models.NewWidgetKey),
        body=_widget_key_fields(fields),
        idempotency_key=_new_key(),
    )


def get_widget_key(key_id: Id) -> ApiRequest[models.WidgetKey]:
    return ApiRequest("GET", _widget_key(key_id), _with_etag(models.WidgetKey))


def update_widget_key(key_id: Id, fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.WidgetKey]:
    return ApiRequest(
        "PATCH", _widget_key(key_id), _with_etag(models.WidgetKey), body=_widget_key_fields(fields), if_match=if_match
    )


def delete_widget_key(key_id: Id, if_match: str | None) -> ApiRequest[models.RemovedWidgetKey]:
    return ApiRequest(
        "DELETE", _widget_key(key_id), lambda response: read(models.RemovedWidgetKey, response.body), if_match=if_match
    )


def get_widget_settings() -> ApiRequest[models.WidgetSettings]:
    return ApiRequest("GET", "/widget-settings", _with_etag(models.WidgetSettings))


def update_widget_settings(fields: Mapping[str, Any], if_match: str | None) -> ApiRequest[models.WidgetSettings]:
    return ApiRequest("PATCH", "/widget-settings", _with_etag(models.WidgetSettings), body=fields, if_match=if_match)


def api_keys_page(cursor: str | None, limit: int | None) -> ApiRequest[Page[models.ApiKey]]:
    return _page("/api-keys", models.ApiKey, cursor, limit)


def get_api_key_usage(key_id: Id, hours: int) -> ApiRequest[models.ApiKeyUsage]:
    return ApiRequest(
        "GET",
        f"/api-keys/{_id(key_id)}/usage",
        lambda response: read(models.ApiKeyUsage, response.body),
        {"hours": str(hours)},
    )


def get_usage(query: Mapping[str, Any]) -> ApiRequest[models.Usage]:
    return ApiRequest("GET", "/usage", lambda response: read(models.Usage, response.body), _query(query))


def requests_page(
    cursor: str | None, limit: int | None, filters: Mapping[str, Any]
) -> ApiRequest[Page[models.LoggedRequest]]:
    return _page("/requests", models.LoggedRequest, cursor, limit, _query(filters))


def get_request(request_id: str) -> ApiRequest[models.ExplainedRequest]:
    if not isinstance(request_id, str) or _REQUEST_ID.fullmatch(request_id) is None:
        raise IdError("request_id must be the `X-Request-ID` of a response, such as `error.problem.request_id`")
    return ApiRequest("GET", f"/requests/{request_id}", lambda response: read(models.ExplainedRequest, response.body))


def require_progress(cursor: str | None, page: Page[Any]) -> str | None:
    """The next page's cursor. Raises UnexpectedResponse if it equals `cursor`, because the list would never end."""
    if page.next_cursor is not None and page.next_cursor == cursor:
        raise UnexpectedResponse("The page links to itself as the next page.")
    return page.next_cursor


def _page(
    path: str, model: type[Model], cursor: str | None, limit: int | None, filters: Mapping[str, str] | None = None
) -> ApiRequest[Page[Model]]:
    query = {name: str(value) for name, value in (("limit", limit), ("cursor", cursor)) if value is not None}
    query.update(filters or {})

    def read_page(response: ApiResponse) -> Page[Model]:
        if not isinstance(response.body, list):
            raise UnexpectedResponse("Expected a JSON array in the response body.")
        return Page(tuple(read(model, item) for item in response.body), response.next_cursor)

    return ApiRequest("GET", path, read_page, query)


def _with_etag(model: type[Model]) -> Callable[[ApiResponse], Model]:
    return lambda response: read(model, response.body, etag=response.etag)


def _widget_key_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields as they are sent.

    Raises ArgumentError if `domain_allowlist` is a string, because each character would become an entry.
    """
    sent = dict(fields)
    if "domain_allowlist" in sent:
        value = sent["domain_allowlist"]
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ArgumentError('domain_allowlist must be a list, such as ["acme.com"]')
        sent["domain_allowlist"] = list(value)
    if sent.get("agent_id") is not None:
        sent["agent_id"] = _id(sent["agent_id"])
    return sent


def _query(given: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that are not None. Raises ArgumentError for a time without a zone, and IdError."""
    sent: dict[str, str] = {}
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ArgumentError(f"{name} must have a time zone, such as datetime.now(UTC)")
            sent[name] = value.isoformat()
        else:
            sent[name] = _id(value) if name == "caller" else str(value)
    return sent


def _new_key() -> str:
    return str(uuid4())


def _agent(agent_id: Id) -> str:
    return f"/agents/{_id(agent_id)}"


def _widget_key(key_id: Id) -> str:
    return f"/widget-keys/{_id(key_id)}"


def _id(value: Id) -> str:
    """The id as a path segment. Raises IdError if it is not a UUID, so that no other text gets into a path."""
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise IdError("an id must be a UUID, such as `agent.id`") from None
