"""Checks the API key when the server starts over stdio, and reports a problem on stderr.

MCP clients show stderr as the server's log. Without the check, the user would learn of an invalid key only from the
first tool call in a conversation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from kataven.client import AsyncKatavenClient, KatavenError
from kataven.mcp_server.refusals import check_key, is_about_key

SET_A_VALID_KEY = "Set a valid API key (sk_live_…) as KATAVEN_API_KEY in the configuration of the MCP client."
STILL_STARTED = "The server is running, and its tools report the error until the API responds."


def startup_check(
    client: AsyncKatavenClient, report: Callable[[str], object]
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan of the server that checks the key in the background, so that a slow API doesn't delay the start."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(_check, client, report)
            yield
            group.cancel_scope.cancel()

    return lifespan


async def _check(client: AsyncKatavenClient, report: Callable[[str], object]) -> None:
    try:
        await check_key(client)
    except KatavenError as error:
        if is_about_key(error):
            report(f"The API refuses this API key. {error} {SET_A_VALID_KEY}")
        else:
            report(f"The API key could not be checked. {error} {STILL_STARTED}")
