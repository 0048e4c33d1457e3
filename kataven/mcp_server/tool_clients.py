"""Opens the SDK client of a tool call, and turns SDK errors into tool errors that state the next step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from kataven.client import AsyncKatavenClient, KatavenError
from kataven.mcp_server.advice import advise
from kataven.mcp_server.callers import ClientFor

# As the MCP specification defines the hints: a tool is `destructive` unless its updates are only additive, and
# `idempotent` if another call with the same arguments has no further effect.
READ = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CREATE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
CHANGE = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

OpenClient = Callable[[Context, str], AbstractAsyncContextManager[AsyncKatavenClient]]
"""The client for one tool call about a resource (a noun). Raises ToolError with a message for the model."""


def client_opener(client_for: ClientFor) -> OpenClient:
    """Open the clients that `client_for` selects for the caller."""

    @asynccontextmanager
    async def open_client(context: Context, noun: str) -> AsyncIterator[AsyncKatavenClient]:
        try:
            async with client_for(context) as kataven:
                yield kataven
        except KatavenError as error:
            raise ToolError(advise(error, noun)) from None

    return open_client
