"""The client for code that awaits: the same surface as the other one, which a test compares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2
from anyio import sleep

from kataven.client import api_requests, models, transport
from kataven.client.api_requests import ApiRequest, Id
from kataven.client.errors import ClientClosedError
from kataven.client.fields import AgentChanges, AgentFields, AgentWidgetChanges, WidgetKeyChanges, WidgetSettingsChanges
from kataven.client.models import Page
from kataven.client.options import DEFAULT_TIMEOUT_SECONDS, Options, options
from kataven.client.retries import Retry, policy, wait_before_next

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncKatavenClient:
    """Manages one account. It keeps connections open, may be used by many tasks, and wants to be closed.

    `api_key` is by default `KATAVEN_API_KEY`; `base_url` is `KATAVEN_BASE_URL`, else the production API; `timeout` is
    in seconds; `retry` is True or a `Retry`. Raises ConfigurationError; every call can raise the others of the family.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: bool | Retry = False,
    ) -> None:
        self._sender = _Sender(options(api_key, base_url, timeout), policy(retry))
        self.agents = Agents(self._sender)
        self.widget_keys = WidgetKeys(self._sender)
        self.widget_settings = WidgetSettings(self._sender)
        self.api_keys = ApiKeys(self._sender)

    async def me(self) -> models.Me:
        """Who am I, and how much is left to me?"""
        return await self._sender.send(api_requests.me())

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncKatavenClient {self._sender.options.base_url}>"


class _Sender:
    def __init__(self, options: Options, retry: Retry) -> None:
        self.options = options
        self._retry = retry
        self._http = httpx2.AsyncClient(**transport.http_options(options))

    async def send(self, call: ApiRequest[Result]) -> Result:
        tries = 0
        while True:
            outcome = await self._once(call)
            if outcome.error is None:
                return outcome.result  # type: ignore[return-value]  # there is a result where there is no error
            tries += 1
            wait = wait_before_next(self._retry, call.method, tries, outcome.error)
            if wait is None:
                raise outcome.error
            await sleep(wait)

    async def each(self, page_after: Callable[[str | None], ApiRequest[Page[Item]]]) -> AsyncIterator[Item]:
        cursor: str | None = None
        while True:
            page = await self.send(page_after(cursor))
            for item in page.items:
                yield item
            cursor = api_requests.require_progress(cursor, page)
            if cursor is None:
                return

    async def close(self) -> None:
        await self._http.aclose()

    async def _once(self, call: ApiRequest[Result]) -> transport.Outcome[Result]:
        try:
            response = await self._http.request(**transport.request_options(self.options, call))
        except httpx2.RequestError as error:
            return transport.Outcome(error=transport.no_answer(error))
        except RuntimeError:
            if not self._http.is_closed:
                raise
            return transport.Outcome(error=ClientClosedError())
        return transport.outcome(self.options, call, response)


class _Resource:
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender


class Agents(_Resource):
    """The account's agents."""

    def list(self, *, page_size: int | None = None) -> AsyncIterator[models.Agent]:
        """All of them, newest first; pages are asked for as you go."""
        return self._sender.each(lambda cursor: api_requests.agents_page(cursor, page_size))

    async def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.Agent]:
        """A part of the list."""
        return await self._sender.send(api_requests.agents_page(cursor, limit))

    async def create(self, name: str, **fields: Unpack[AgentFields]) -> models.Agent:
        """A new agent."""
        return await self._sender.send(api_requests.create_agent({"name": name, **fields}))

    async def get(self, agent_id: Id) -> models.Agent:
        """One agent."""
        return await self._sender.send(api_requests.get_agent(agent_id))

    async def update(
        self, agent_id: Id, *, if_match: str | None = None, **fields: Unpack[AgentChanges]
    ) -> models.Agent:
        """Change the given fields; with `if_match=agent.etag` only if nobody else changed it since it was read."""
        return await self._sender.send(api_requests.update_agent(agent_id, fields, if_match))

    async def delete(self, agent_id: Id, *, if_match: str | None = None) -> None:
        """Widget keys that are pinned to the agent serve nothing from then on."""
        return await self._sender.send(api_requests.delete_agent(agent_id, if_match))

    async def get_widget_settings(self, agent_id: Id) -> models.AgentWidgetSettings:
        """Whether web pages may embed the agent, and which visitors it takes."""
        return await self._sender.send(api_requests.get_agent_widget_settings(agent_id))

    async def update_widget_settings(
        self, agent_id: Id, *, if_match: str | None = None, **fields: Unpack[AgentWidgetChanges]
    ) -> models.AgentWidgetSettings:
        """Change the given ones."""
        return await self._sender.send(api_requests.update_agent_widget_settings(agent_id, fields, if_match))


class WidgetKeys(_Resource):
    """The public keys that web pages carry."""

    def list(self, *, page_size: int | None = None) -> AsyncIterator[models.WidgetKey]:
        """All of them, newest first, disabled ones too; pages are asked for as you go."""
        return self._sender.each(lambda cursor: api_requests.widget_keys_page(cursor, page_size))

    async def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.WidgetKey]:
        """A part of the list."""
        return await self._sender.send(api_requests.widget_keys_page(cursor, limit))

    async def create(
        self, name: str, *, domain_allowlist: Sequence[str] = (), agent_id: Id | None = None
    ) -> models.NewWidgetKey:
        """A new key for the pages of `domain_allowlist`; its text and its snippet are in the answer, this once."""
        return await self._sender.send(api_requests.create_widget_key(name, domain_allowlist, agent_id))

    async def get(self, key_id: Id) -> models.WidgetKey:
        """One key, without its text."""
        return await self._sender.send(api_requests.get_widget_key(key_id))

    async def update(
        self, key_id: Id, *, if_match: str | None = None, **fields: Unpack[WidgetKeyChanges]
    ) -> models.WidgetKey:
        """Change the given fields. What is taken away is gone when this has answered: see `receipt`."""
        return await self._sender.send(api_requests.update_widget_key(key_id, fields, if_match))

    async def delete(self, key_id: Id, *, if_match: str | None = None) -> models.RemovedWidgetKey:
        """Pages that still carry the key are refused from then on."""
        return await self._sender.send(api_requests.delete_widget_key(key_id, if_match))


class WidgetSettings(_Resource):
    """How the widget looks on the account's pages."""

    async def get(self) -> models.WidgetSettings:
        """The looks as they are."""
        return await self._sender.send(api_requests.get_widget_settings())

    async def update(
        self, *, if_match: str | None = None, **fields: Unpack[WidgetSettingsChanges]
    ) -> models.WidgetSettings:
        """Change the given fields."""
        return await self._sender.send(api_requests.update_widget_settings(fields, if_match))


class ApiKeys(_Resource):
    """The account's API keys, to look at: only people make and end them."""

    def list(self, *, page_size: int | None = None) -> AsyncIterator[models.ApiKey]:
        """All of them, newest first, ended ones too; pages are asked for as you go."""
        return self._sender.each(lambda cursor: api_requests.api_keys_page(cursor, page_size))

    async def page(self, *, cursor: str | None = None, limit: int | None = None) -> Page[models.ApiKey]:
        """A part of the list."""
        return await self._sender.send(api_requests.api_keys_page(cursor, limit))
