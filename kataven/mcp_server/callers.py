"""Selects the SDK client for a tool call. Over stdio, one caller has one client; over HTTP, each caller sends a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from mcp.server.mcpserver import Context

from kataven.client import AsyncKatavenClient, ConfigurationError, KatavenError, Retry

RETRY = Retry(max_wait_seconds=10)
"""Reads are retried for at most as long as a model can be kept waiting."""

ClientFor = Callable[[Context], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one tool call. Raises ConfigurationError if the call has no API key."""
ClientOf = Callable[[str], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one use of a key. Raises ConfigurationError if the key is malformed."""

REFUSAL = "kataven.refusal"
"""The key under which the ASGI scope of an HTTP request holds a KeyErrorRecorder."""


class KeyErrorRecorder(Protocol):
    """Records errors about the API key of an HTTP request."""

    def record(self, error: KatavenError) -> None:
        """Record the error if it is about the key."""


def single_caller(client: AsyncKatavenClient) -> ClientFor:
    """Use the same client for all calls. It remains open."""

    @asynccontextmanager
    async def client_for(_: Context) -> AsyncIterator[AsyncKatavenClient]:
        yield client

    return client_for


def client_for_key(base_url: str | None) -> ClientOf:
    """Create a client per use of a key. The client is closed after that use, and the key is not stored."""

    @asynccontextmanager
    async def client_of(key: str) -> AsyncIterator[AsyncKatavenClient]:
        async with AsyncKatavenClient(key, base_url=base_url, retry=RETRY) as client:
            yield client

    return client_of


def callers_with_keys(client_of: ClientOf) -> ClientFor:
    """Use the API key that each call carries. Errors about the key are recorded on the HTTP request."""

    @asynccontextmanager
    async def client_for(context: Context) -> AsyncIterator[AsyncKatavenClient]:
        key = bearer((context.headers or {}).get("authorization"))
        if key is None:
            raise ConfigurationError("The call has no API key.")
        try:
            async with client_of(key) as client:
                yield client
        except KatavenError as error:
            refusal: KeyErrorRecorder | None = getattr(context.request_context.request, "scope", {}).get(REFUSAL)
            if refusal is not None:
                refusal.record(error)
            raise

    return client_for


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header; None for other headers."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
