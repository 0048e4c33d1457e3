"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from kataven.client import api_requests, models
from kataven.client.api_requests import Id
from kataven.client.fields import AgentChanges, AgentFields, AgentWidgetChanges, WidgetKeyChanges, WidgetSettingsChanges
from kataven.client.models import Page
from kataven.client.options import DEFAULT_TIMEOUT_SECONDS, options
from kataven.client.retries import Retry, policy

if TYPE_CHECKING:
    from kataven.client.sync_sender import Sender


class KatavenClient:
    """Manages one account. The client keeps connections open and can be shared among threads. Close it after use.

    `api_key` defaults to `KATAVEN_API_KEY`, and `base_url` to `KATAVEN_BASE_URL` or the production API. `timeout` is
    in seconds. `retry` is True, False or a `Retry`. Raises ConfigurationError if an argument is invalid. Every method
    can raise the other subclasses of `KatavenError`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: bool | Retry = False,
    ) -> None:
        # Importing httpx2 takes several times longer than importing the SDK, so only the first client does it.
        from kataven.client.sync_sender import Sender

        self._sender = Sender(options(api_key, base_url, timeout), policy(retry))
        self.agents = Agents(self._sender)
        self.widget_keys = WidgetKeys(self._sender)
        self.widget_settings = WidgetSettings(self._sender)
        self.api_keys = ApiKeys(self._sender)
        self.usage = Usage(self._sender)
        self.requests = Requests(self._sender)

    def me(self) -> models.Me:
        """Get the account, the API key in use, the rate limits and the remaining quota."""
        return self._sender.send(api_requests.me())

    def close(self) -> None:
        """Close all connections. Later requests raise ClientClosedError."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KatavenClient {self._sender.options.base_url}>"


class _Resource:
    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class Agents(_Resource):
    """The account's agents."""

    def list(self, *, page_size: int | None = None) -> Iterator[models.Agent]:
        """List all agents, newest first. Pages are requested as you iterate."""
        return self._sender.iterate(lambda cursor: api_requests.agents_page(cursor, page_size))

    def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.Agent]:
        """Get one page of agents. Pass its `next_cursor` as `cursor` to get the next page."""
        return self._sender.send(api_requests.agents_page(cursor, limit))

    def create(self, name: str, **fields: Unpack[AgentFields]) -> models.Agent:
        """Create an agent. Its status is `draft` unless `status` is given."""
        return self._sender.send(api_requests.create_agent({"name": name, **fields}))

    def get(self, agent_id: Id) -> models.Agent:
        """Get an agent, with its `etag`."""
        return self._sender.send(api_requests.get_agent(agent_id))

    def update(self, agent_id: Id, *, if_match: str | None = None, **fields: Unpack[AgentChanges]) -> models.Agent:
        """Change the given fields. With `if_match=agent.etag`, the API rejects the update if the agent has changed."""
        return self._sender.send(api_requests.update_agent(agent_id, fields, if_match))

    def delete(self, agent_id: Id, *, if_match: str | None = None) -> None:
        """Delete an agent permanently. Widget keys that are pinned to it stop working."""
        return self._sender.send(api_requests.delete_agent(agent_id, if_match))

    def get_widget_settings(self, agent_id: Id) -> models.AgentWidgetSettings:
        """Get whether web pages may embed the agent, and which visitors it accepts."""
        return self._sender.send(api_requests.get_agent_widget_settings(agent_id))

    def update_widget_settings(
        self, agent_id: Id, *, if_match: str | None = None, **fields: Unpack[AgentWidgetChanges]
    ) -> models.AgentWidgetSettings:
        """Change the given settings."""
        return self._sender.send(api_requests.update_agent_widget_settings(agent_id, fields, if_match))


class WidgetKeys(_Resource):
    """The account's widget keys: public keys that web pages embed."""

    def list(self, *, page_size: int | None = None) -> Iterator[models.WidgetKey]:
        """List all widget keys, newest first, including disabled ones. Pages are requested as you iterate."""
        return self._sender.iterate(lambda cursor: api_requests.widget_keys_page(cursor, page_size))

    def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.WidgetKey]:
        """Get one page of widget keys. Pass its `next_cursor` as `cursor` to get the next page."""
        return self._sender.send(api_requests.widget_keys_page(cursor, limit))

    def create(
        self, name: str, *, domain_allowlist: Sequence[str] = (), agent_id: Id | None = None
    ) -> models.NewWidgetKey:
        """Create a widget key for the pages of `domain_allowlist`. Only this response has `key` and `snippet`."""
        return self._sender.send(api_requests.create_widget_key(name, domain_allowlist, agent_id))

    def get(self, key_id: Id) -> models.WidgetKey:
        """Get a widget key, without the key itself."""
        return self._sender.send(api_requests.get_widget_key(key_id))

    def update(
        self, key_id: Id, *, if_match: str | None = None, **fields: Unpack[WidgetKeyChanges]
    ) -> models.WidgetKey:
        """Change the given fields. If the change revokes access, all workers have applied it: see `receipt`."""
        return self._sender.send(api_requests.update_widget_key(key_id, fields, if_match))

    def delete(self, key_id: Id, *, if_match: str | None = None) -> models.RemovedWidgetKey:
        """Delete a widget key permanently. When this returns, all workers refuse pages that still use the key."""
        return self._sender.send(api_requests.delete_widget_key(key_id, if_match))


class WidgetSettings(_Resource):
    """The widget's appearance on the account's pages."""

    def get(self) -> models.WidgetSettings:
        """Get the widget's appearance."""
        return self._sender.send(api_requests.get_widget_settings())

    def update(self, *, if_match: str | None = None, **fields: Unpack[WidgetSettingsChanges]) -> models.WidgetSettings:
        """Change the given fields."""
        return self._sender.send(api_requests.update_widget_settings(fields, if_match))


class ApiKeys(_Resource):
    """The account's API keys, read-only. Users create and revoke API keys in the Hub."""

    def list(self, *, page_size: int | None = None) -> Iterator[models.ApiKey]:
        """List all API keys, newest first, including revoked and expired ones. Pages are requested as you iterate."""
        return self._sender.iterate(lambda cursor: api_requests.api_keys_page(cursor, page_size))

    def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.ApiKey]:
        """Get one page of API keys. Pass its `next_cursor` as `cursor` to get the next page."""
        return self._sender.send(api_requests.api_keys_page(cursor, limit))

    def usage(self, key_id: Id, *, hours: int = 24) -> models.ApiKeyUsage:
        """Get the calls of an API key, its addresses and its routes, of the last `hours`."""
        return self._sender.send(api_requests.get_api_key_usage(key_id, hours))


class Usage(_Resource):
    """How often the account was called."""

    def get(
        self,
        *,
        interval: str = "hour",
        group_by: str = "outcome",
        start: datetime | None = None,
        end: datetime | None = None,
        caller: Id | None = None,
        route: str | None = None,
        outcome: str | None = None,
    ) -> models.Usage:
        """Count the calls of a period by `minute`, `hour` or `day`. By default, the last 24 intervals by outcome.

        Times must have a time zone. `caller` is the id of an API key or a user.
        """
        query = {
            "interval": interval,
            "group_by": group_by,
            "start": start,
            "end": end,
            "caller": caller,
            "route": route,
            "outcome": outcome,
        }
        return self._sender.send(api_requests.get_usage(query))


class Requests(_Resource):
    """The log of the account's latest requests."""

    def list(
        self,
        *,
        page_size: int | None = None,
        caller: Id | None = None,
        outcome: str | None = None,
        code: str | None = None,
    ) -> Iterator[models.LoggedRequest]:
        """List requests, newest first. Refused and failed requests are logged, and a sample of the others."""
        filters = {"caller": caller, "outcome": outcome, "code": code}
        return self._sender.iterate(lambda cursor: api_requests.requests_page(cursor, page_size, filters))

    def page(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
        caller: Id | None = None,
        outcome: str | None = None,
        code: str | None = None,
    ) -> Page[models.LoggedRequest]:
        """Get one page of requests. Pass its `next_cursor` as `cursor`, with the same filters, to get the next page."""
        filters = {"caller": caller, "outcome": outcome, "code": code}
        return self._sender.send(api_requests.requests_page(cursor, limit, filters))

    def get(self, request_id: str) -> models.ExplainedRequest:
        """Explain a request by the `X-Request-ID` of its response: which step decided it, and what to do."""
        return self._sender.send(api_requests.get_request(request_id))
