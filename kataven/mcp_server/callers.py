"""Whose account a tool call is for. Over stdio there is one caller; over HTTP each brings a key of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mcp.server.mcpserver import Context

from kataven.client import AsyncKatavenClient, ConfigurationError, Retry

RETRY = Retry(max_wait_seconds=10)
"""Reads are tried again if that takes no longer than a model should be left waiting."""

ClientFor = Callable[[Context], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one tool call. Raises ConfigurationError if the caller showed no key."""


def one_caller(client: AsyncKatavenClient) -> ClientFor:
    """Every call is for the account of this client, which stays open."""

    @asynccontextmanager
    async def client_for(_: Context) -> AsyncIterator[AsyncKatavenClient]:
        yield client

    return client_for


def callers_with_keys(base_url: str | None) -> ClientFor:
    """Each call is for the account whose key it carries; the key is used for that call and then forgotten."""

    @asynccontextmanager
    async def client_for(context: Context) -> AsyncIterator[AsyncKatavenClient]:
        key = bearer((context.headers or {}).get("authorization"))
        if key is None:
            raise ConfigurationError("This call carries no API key.")
        async with AsyncKatavenClient(key, base_url=base_url, retry=RETRY) as client:
            yield client

    return client_for


def bearer(header: str | None) -> str | None:
    """The token in an `Authorization` header, if it is a Bearer's."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
