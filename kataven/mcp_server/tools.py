"""The server: tools named `kataven_<verb>_<noun>`, each one call of the SDK."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

from kataven import __version__
from kataven.mcp_server import account, agents, widget_keys, widget_settings
from kataven.mcp_server.callers import ClientFor
from kataven.mcp_server.calling import calling_for
from kataven.mcp_server.strict import StrictServer

INSTRUCTIONS = """\
Manage one account of Kataven, the platform for AI voice and chat agents: its agents, the public keys that let web pages
embed them, and how the embedded widget looks. Read before you change, and pass the `etag` that you read as `if_match`.
API keys can't be made or ended here: people do that in the dashboard."""


def create_server(client_for: ClientFor) -> MCPServer:
    """A server whose tools act for whoever `client_for` says is calling."""
    server = StrictServer("kataven", title="Kataven", version=__version__, instructions=INSTRUCTIONS)
    for blueprint in (account, agents, widget_keys, widget_settings):
        blueprint.add(server, calling_for(client_for))
    return server
