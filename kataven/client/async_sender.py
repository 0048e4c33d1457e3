"""Sends the requests of the asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import httpx2
from anyio import sleep

from kataven.client import api_requests, transport
from kataven.client.api_requests import ApiRequest
from kataven.client.errors import ClientClosedError
from kataven.client.models import Page
from kataven.client.options import Options
from kataven.client.retries import Retry, delay_before_retry

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncSender:
    """Sends requests over one connection pool, and retries them."""

    def __init__(self, options: Options, retry: Retry) -> None:
        self.options = options
        self._expiry = transport.ExpiryWarning()
        self._retry = retry
        self._http = httpx2.AsyncClient(**transport.http_options(options))

    async def send(self, request: ApiRequest[Result]) -> Result:
        failed_attempts = 0
        while True:
            outcome = await self._send_once(request)
            if outcome.error is None:
                return outcome.result  # type: ignore[return-value]  # without an error, the result is set
            failed_attempts += 1
            delay = delay_before_retry(self._retry, request, failed_attempts, outcome.error)
            if delay is None:
                raise outcome.error
            await sleep(delay)

    async def iterate(self, page_after: Callable[[str | None], ApiRequest[Page[Item]]]) -> AsyncIterator[Item]:
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

    async def _send_once(self, request: ApiRequest[Result]) -> transport.Outcome[Result]:
        try:
            response = await self._http.request(**transport.request_options(self.options, request))
        except httpx2.RequestError as error:
            return transport.Outcome(error=transport.request_error(error))
        except RuntimeError:
            if not self._http.is_closed:
                raise
            return transport.Outcome(error=ClientClosedError())
        self._expiry.check(response)
        return transport.outcome(self.options, request, response)
