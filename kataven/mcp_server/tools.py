"""Creates the MCP server. Its tools are named `kataven_<verb>_<noun>`; each one calls one method of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.mcpserver import MCPServer

from kataven import __version__
from kataven.mcp_server import account, agents, usage, widget_keys, widget_settings
from kataven.mcp_server.callers import ClientFor
from kataven.mcp_server.strict import StrictServer
from kataven.mcp_server.tool_clients import client_opener

INSTRUCTIONS = """\
Manage one account of Kataven, the platform for AI voice and chat agents: its agents, the public keys that let web pages
embed them, and the appearance of the embedded widget. Read a resource before you change it, and pass its `etag` as
`if_match`. These tools can't create or revoke API keys: users do that in the Hub."""


Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]
"""Runs while the server is connected."""


def create_server(client_for: ClientFor, lifespan: Lifespan | None = None) -> MCPServer:
    """A server whose tools use the clients that `client_for` selects."""
    server = StrictServer(
        "kataven",
        title="Kataven",
        version=__version__,
        instructions=INSTRUCTIONS,
        log_level="WARNING",  # the library logs each request at INFO
        lifespan=lifespan,
    )
    for module in (account, agents, usage, widget_keys, widget_settings):
        module.add(server, client_opener(client_for))
    return server
