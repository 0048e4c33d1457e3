"""Whose account a tool call is for. Over stdio there is one caller; over HTTP each brings a key of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from mcp.server.mcpserver import Context

from kataven.client import AsyncKatavenClient, ConfigurationError, KatavenError, Retry

RETRY = Retry(max_wait_seconds=10)
"""Reads are tried again if that takes no longer than a model should be left waiting."""

ClientFor = Callable[[Context], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one tool call. Raises ConfigurationError if the caller showed no key."""
ClientOf = Callable[[str], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one use of a key. Raises ConfigurationError for what is no key."""

REFUSAL = "kataven.refusal"
"""Under this name the scope of an HTTP request holds a Noted."""


class Noted(Protocol):
    """Where errors about the key of an HTTP request are noted."""

    def note(self, error: KatavenError) -> None:
        """Remember the error, if it is about the key."""


def one_caller(client: AsyncKatavenClient) -> ClientFor:
    """Every call is for the account of this client, which stays open."""

    @asynccontextmanager
    async def client_for(_: Context) -> AsyncIterator[AsyncKatavenClient]:
        yield client

    return client_for


def client_for_key(base_url: str | None) -> ClientOf:
    """Clients that are closed after one use; the key is used for that and then forgotten."""

    @asynccontextmanager
    async def client_of(key: str) -> AsyncIterator[AsyncKatavenClient]:
        async with AsyncKatavenClient(key, base_url=base_url, retry=RETRY) as client:
            yield client

    return client_of


def callers_with_keys(client_of: ClientOf) -> ClientFor:
    """Each call is for the account whose key it carries. A refused key is noted on the HTTP request."""

    @asynccontextmanager
    async def client_for(context: Context) -> AsyncIterator[AsyncKatavenClient]:
        key = bearer((context.headers or {}).get("authorization"))
        if key is None:
            raise ConfigurationError("This call carries no API key.")
        try:
            async with client_of(key) as client:
                yield client
        except KatavenError as error:
            refusal: Noted | None = getattr(context.request_context.request, "scope", {}).get(REFUSAL)
            if refusal is not None:
                refusal.note(error)
            raise

    return client_for


def bearer(header: str | None) -> str | None:
    """The token in an `Authorization` header, if it is a Bearer's."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
