"""Gives tests one synchronous interface to both clients, so that each test runs against both."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from kataven.client import AsyncKatavenClient, KatavenClient

KINDS = ["sync", "async"]


class BlockingProxy:
    """Wraps an asynchronous object so that its methods block until their results are available."""

    def __init__(self, inner: Any, portal: BlockingPortal) -> None:
        self._inner, self._portal = inner, portal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return BlockingProxy(found, self._portal)
        return lambda *arguments, **options: self._run(found, *arguments, **options)

    def _run(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        if isinstance(result, AsyncIterator):
            return self._iterate(result)
        return self._portal.call(_awaited, result) if inspect.isawaitable(result) else result

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            item = self._portal.call(_next, items)
            if item is StopAsyncIteration:
                return
            yield item

    def __repr__(self) -> str:
        return repr(self._inner)


async def _awaited(result: Any) -> Any:
    return await result


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, StopAsyncIteration)


@contextmanager
def client_of(kind: str, *arguments: Any, **options: Any) -> Iterator[Any]:
    """A synchronous or asynchronous client, closed at the end."""
    if kind == "sync":
        with KatavenClient(*arguments, **options) as client:
            yield client
        return
    with start_blocking_portal() as portal:
        client = BlockingProxy(AsyncKatavenClient(*arguments, **options), portal)
        try:
            yield client
        finally:
            client.close()
