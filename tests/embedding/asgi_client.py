"""Sends requests to an ASGI application in this process, on one event loop, from any client address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from werkzeug.datastructures import Headers


@dataclass(frozen=True)
class AsgiResponse:
    """A complete response."""

    status_code: int
    headers: Headers
    body: bytes

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    def get_json(self) -> Any:
        return json.loads(self.body)


@dataclass
class AsgiClient:
    """Within the block, the application has started, as under a server: its lifespan has begun and ends with it."""

    app: Any
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __enter__(self) -> Self:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._life = self.loop.create_task(
            self.app({"type": "lifespan", "state": {}}, self._events.get, self._sent.put)
        )
        self.started = self._exchange("lifespan.startup")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.started["type"] == "lifespan.startup.complete":
            assert self._exchange("lifespan.shutdown")["type"] == "lifespan.shutdown.complete"
        self.loop.run_until_complete(self._life)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        environ_base: Mapping[str, str] | None = None,
        raw_headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> AsgiResponse:
        address = (environ_base or {}).get("REMOTE_ADDR", "127.0.0.1")
        pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = self.scope("http", path, [*pairs, *raw_headers], address) | {"method": method, "scheme": "http"}
        sent = self._run(scope, [{"type": "http.request", "body": b"", "more_body": False}])
        start = next(message for message in sent if message["type"] == "http.response.start")
        body = b"".join(message.get("body", b"") for message in sent)
        decoded = Headers([(name.decode(), value.decode("latin-1")) for name, value in start["headers"]])
        return AsgiResponse(start["status"], decoded, body)

    def get(self, path: str, token: str | None = None, **options: Any) -> AsgiResponse:
        return self.call("GET", path, {} if token is None else {"Authorization": f"Bearer {token}"}, **options)

    def open_websocket(self, path: str) -> list[dict[str, Any]]:
        """The messages that the application sends to a client that connects."""
        return self._run(self.scope("websocket", path, []), [{"type": "websocket.connect"}])

    def scope(
        self, kind: str, path: str, headers: list[tuple[bytes, bytes]], address: str = "127.0.0.1"
    ) -> dict[str, Any]:
        return {
            "type": kind,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": (address, 1),
            "root_path": "",
            "state": {},
        }

    def _run(self, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not received:
                await asyncio.Event().wait()  # the client stays connected until it has the response
            return received.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        return sent

    def _exchange(self, event: str) -> dict[str, Any]:
        self._events.put_nowait({"type": event})
        return self.loop.run_until_complete(self._sent.get())
