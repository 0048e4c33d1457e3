"""One tool call: the client of whoever is calling, and errors that say what to do next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from kataven.client import AsyncKatavenClient, KatavenError
from kataven.mcp_server.advice import advise
from kataven.mcp_server.callers import ClientFor

# Hints in the specification's words: `destructive` is whatever is not purely additive, `idempotent` whatever has no
# further effect when it is done again with the same arguments.
READ = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CREATE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
CHANGE = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

Calling = Callable[[Context, str], AbstractAsyncContextManager[AsyncKatavenClient]]
"""A client for one call of a tool about a noun. Raises ToolError, whose text is for the model."""


def calling_for(client_for: ClientFor) -> Calling:
    """Calls as whoever `client_for` says is calling."""

    @asynccontextmanager
    async def calling(context: Context, noun: str) -> AsyncIterator[AsyncKatavenClient]:
        try:
            async with client_for(context) as kataven:
                yield kataven
        except KatavenError as error:
            raise ToolError(advise(error, noun)) from None

    return calling
