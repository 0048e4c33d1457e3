"""A key that the API refuses is refused over HTTP, too: 401, by which clients know to ask for another one.

A tool's own errors are answered 200, for the model to read. What a model can't mend is the key, so that error is noted
on the request it belongs to, and the answer becomes a 401 (RFC 6750, section 3.1). The first message of a client asks
the API itself, so that a bad key is found out when the server is added and not in the middle of a conversation.
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

FIRST_METHODS = frozenset({"initialize", "server/discover"})
MAX_FIRST_BYTES = 16 * 1024
"""A longer message is no client's first one, and is not read here."""

MISSING = "Send your Kataven API key: `Authorization: Bearer sk_live_...`."


@dataclass(slots=True)
class Refusal:
    """What the API, or the SDK before it, found wrong with the key of one HTTP request; None as long as nothing is."""

    reason: str | None = None

    def note(self, error: KatavenError) -> None:
        """Remember an error that is about the key; the others are the model's to read."""
        revoked = isinstance(error, ApiError) and error.code == "revoked_credential"
        if revoked or isinstance(error, AuthenticationError | ConfigurationError):
            self.reason = error.detail if isinstance(error, ApiError) else str(error)


class RequireKey:
    """ASGI middleware: without a bearer token nothing is looked at; whether it is a good one, the API decides."""

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
        messages = await _beginning(receive)
        if _is_first(messages):
            await _ask(self._client_of(key), refusal)
        if refusal.reason is not None:
            await _refused(refusal.reason)(scope, receive, send)
            return
        await self._app(scope, _replayed(messages, receive), _Answer(scope, receive, send, refusal).send)


class _Answer:
    """The answer on its way out. Its first line is held back until it is known whether the key was refused."""

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


async def _ask(client: AbstractAsyncContextManager[AsyncKatavenClient], refusal: Refusal) -> None:
    """Whether the API takes the key. An API that can't be asked, or says anything else, is the tools' to report."""
    try:
        async with client as kataven:
            await kataven.me()
    except KatavenError as error:
        refusal.note(error)


async def _beginning(receive: Receive) -> list[Message]:
    """What has arrived of the body, up to a bound."""
    messages: list[Message] = []
    size = 0
    while size <= MAX_FIRST_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return messages


def _is_first(messages: list[Message]) -> bool:
    body = b"".join(message.get("body", b"") for message in messages)
    if len(body) > MAX_FIRST_BYTES:
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, MutableMapping) and said.get("method") in FIRST_METHODS


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    waiting = list(messages)

    async def replay() -> Message:
        return waiting.pop(0) if waiting else await receive()

    return replay


def _refused(reason: str) -> PlainTextResponse:
    text = f"{reason} Ask the user for a good API key (sk_live_...); it belongs into the client's configuration."
    return _unauthorized(text, 'Bearer realm="kataven", error="invalid_token"')


def _unauthorized(text: str, challenge: str) -> PlainTextResponse:
    headers: dict[str, Any] = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return PlainTextResponse(f"{text}\n", 401, headers)
