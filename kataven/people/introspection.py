"""Requests of the issuer's introspection endpoint (RFC 7662), on a separate thread.

A request thread can wait for the result or continue without it. The thread starts with the first request, so that it
starts after the fork.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import httpx2

from kataven.identity import strict
from kataven.identity.client_assertion import ClientAuthentication
from kataven.identity.discovery import DiscoveryFailed, fetch_document
from kataven.identity.fetch import causes
from kataven.identity.jwks import Fetcher
from kataven.identity.trustworthy_url import is_trustworthy_url
from kataven.people.confirmations import TIMEOUT_SECONDS, IntrospectionFailed

DISCOVERY_SECONDS = 2.0
FRESH_SECONDS = 600.0
"""How long the endpoint from the discovery document is used."""
MAX_CONNECTIONS = 8
MAX_RESPONSE_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


class Introspector:
    """Asks one issuer about tokens. Thread-safe. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        issuer: str,
        authentication: ClientAuthentication,
        fetcher: Fetcher,
        options: Mapping[str, Any],
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        allow_loopback_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`options` are those of the HTTP client: see `IssuerConnection`."""
        self._issuer = issuer
        self._authentication = authentication
        self._fetcher = fetcher
        self._options = dict(options)
        self._timeout_seconds = timeout_seconds
        self._allow_loopback_http = allow_loopback_http
        self._clock = clock
        self._endpoint: tuple[str, float] | None = None
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, token: str, sub: str) -> Future[bool]:
        """Whether the issuer says that the token of this user is active. The future raises IntrospectionFailed."""
        return asyncio.run_coroutine_threadsafe(self._ask(token, sub), self._running_loop())

    def close(self) -> None:
        """Stop the thread, and close the connections. Requests in progress fail."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=5)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(loop,), name="introspection", daemon=True)
                self._thread.start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(self._close_client())
        loop.close()

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, token: str, sub: str) -> bool:
        try:
            return await asyncio.wait_for(self._exchange(token, sub), self._timeout_seconds)
        except TimeoutError:
            raise IntrospectionFailed("no complete response in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            reason = type(list(causes(error))[-1]).__name__
            raise IntrospectionFailed(f"unreachable: {reason}") from error

    async def _exchange(self, token: str, sub: str) -> bool:
        endpoint = await self._find_endpoint()
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._authentication.authenticate(headers, form)
        if self._client is None:
            limits = httpx2.Limits(max_connections=MAX_CONNECTIONS)
            self._client = httpx2.AsyncClient(timeout=None, limits=limits, **self._options)  # limited by `_ask`
        async with self._client.stream("POST", endpoint, data=form, headers=headers) as response:
            if response.status_code != httpx2.codes.OK:
                raise IntrospectionFailed(_reason(response.status_code))
            body = bytearray()
            # Raw, because an unsolicited compressed response could expand to any size in one step.
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise IntrospectionFailed("the response is too long")
        return _is_active(bytes(body), self._issuer, sub)

    async def _find_endpoint(self) -> str:
        found = self._endpoint
        if found is None or self._clock() - found[1] >= FRESH_SECONDS:
            try:
                document = await asyncio.to_thread(
                    fetch_document, self._issuer, self._fetcher, timeout_seconds=DISCOVERY_SECONDS
                )
            except DiscoveryFailed as error:
                if found is None:
                    raise IntrospectionFailed(f"discovery: {error.problem}") from error
                document = {"introspection_endpoint": found[0]}
            endpoint = document.get("introspection_endpoint")
            if not isinstance(endpoint, str) or not is_trustworthy_url(
                endpoint, allow_loopback_http=self._allow_loopback_http
            ):
                raise IntrospectionFailed("the issuer has no introspection endpoint with an https URL")
            found = self._endpoint = endpoint, self._clock()
        return found[0]


def _reason(status: int) -> str:
    if status in (401, 403):
        return f"status {status}: the issuer refused the client; check KATAVEN_OIDC_INTROSPECTION_…"
    return f"status {status}"


def _is_active(body: bytes, issuer: str, sub: str) -> bool:
    """RFC 7662, section 2.2. A response about another user or issuer says nothing about this token."""
    try:
        found = strict.json_object(body)
    except ValueError as error:
        raise IntrospectionFailed("the response is not a JSON object") from error
    active = found.get("active")
    if not isinstance(active, bool):
        raise IntrospectionFailed("`active` is not a boolean")
    if active and (found.get("sub", sub) != sub or found.get("iss", issuer) != issuer):
        raise IntrospectionFailed("the response concerns another user or issuer")
    return active
