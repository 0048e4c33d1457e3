"""Returns 401 over HTTP if the API refuses the caller's key, so that the client can ask its user for another key.

Other tool errors are returned with status 200, for the model to read. A model can't fix the key, so errors about the
key are recorded on the HTTP request, and its response becomes a 401 (RFC 6750, section 3.1). Before the messages of a
new connection, the server checks the key with the API, so that an invalid key is reported when the user adds the server
and not during a conversation. The result is not cached: a revoked key is refused on the next message.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kataven.client import ApiError, AsyncKatavenClient, AuthenticationError, ConfigurationError, KatavenError
from kataven.mcp_server.callers import REFUSAL, ClientOf, bearer

FIRST_METHODS = frozenset({"initialize", "server/discover", "tools/list"})
"""Methods that need no request to the API, which a client calls when it connects."""
MAX_FIRST_BYTES = 16 * 1024
"""A longer message is not a client's first message, and is not parsed here."""

MISSING = "Send your Kataven API key: `Authorization: Bearer sk_live_...`."


@dataclass(slots=True)
class Refusal:
    """Why the API or the SDK refused the key of one HTTP request. `reason` is None until that happens."""

    reason: str | None = None

    def record(self, error: KatavenError) -> None:
        """Record the error if it is about the key. Other errors are returned to the model."""
        if is_about_key(error):
            self.reason = error.detail if isinstance(error, ApiError) else str(error)


async def check_key(client: AsyncKatavenClient) -> None:
    """Check the key with one request to the API. Raises KatavenError."""
    await client.me()


def is_about_key(error: KatavenError) -> bool:
    """Whether the API or the SDK refused the key, so that only another key can help."""
    revoked = isinstance(error, ApiError) and error.code == "revoked_credential"
    return revoked or isinstance(error, AuthenticationError | ConfigurationError)


class RequireApiKey:
    """ASGI middleware that rejects requests without a bearer token. The API decides whether the token is valid."""

    def __init__(self, app: ASGIApp, client_of: ClientOf) -> None:
        self._app = app
        self._client_of = client_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        key = bearer(Headers(scope=scope).get("authorization"))
        if key is None:
            await _unauthorized(MISSING, 'Bearer realm="kataven"')(scope, receive, send)
            return
        refusal = Refusal()
        scope[REFUSAL] = refusal
        messages = await _first_messages(receive)
        if _is_first_request(messages):
            await _record_refusal(self._client_of(key), refusal)
        if refusal.reason is not None:
            await _refused(refusal.reason)(scope, receive, send)
            return
        await self._app(scope, _replay(messages, receive), _HeldResponse(scope, receive, send, refusal).send)


class _HeldResponse:
    """Sends a response, but holds back its status and headers until it is known whether the API refused the key."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._refusal = refusal
        self._start: Message | None = None
        self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            if self._refusal.reason is not None:
                self._replaced = True
                await _refused(self._refusal.reason)(self._scope, self._receive, self._send)
            else:
                await self._send(start)
        if not self._replaced:
            await self._send(message)


async def _record_refusal(client: AbstractAsyncContextManager[AsyncKatavenClient], refusal: Refusal) -> None:
    """Check the key with the API. The tools report other errors, for example that the API is unavailable."""
    try:
        async with client as kataven:
            await check_key(kataven)
    except KatavenError as error:
        refusal.record(error)


async def _first_messages(receive: Receive) -> list[Message]:
    """The messages of the request body, until it exceeds MAX_FIRST_BYTES."""
    messages: list[Message] = []
    size = 0
    while size <= MAX_FIRST_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return messages


def _is_first_request(messages: list[Message]) -> bool:
    body = b"".join(message.get("body", b"") for message in messages)
    if len(body) > MAX_FIRST_BYTES:
        return False
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, MutableMapping) and parsed.get("method") in FIRST_METHODS


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = list(messages)

    async def replay() -> Message:
        return waiting.pop(0) if waiting else await receive()

    return replay


def _refused(reason: str) -> PlainTextResponse:
    text = f"{reason} Ask the user to set a valid API key (sk_live_...) in the configuration of the MCP client."
    return _unauthorized(text, 'Bearer realm="kataven", error="invalid_token"')


def _unauthorized(text: str, challenge: str) -> PlainTextResponse:
    headers: dict[str, Any] = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return PlainTextResponse(f"{text}\n", 401, headers)
