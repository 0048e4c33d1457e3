"""Serves the tools over streamable HTTP. The server stores no API key: each caller sends its own with every request.

Access to the port therefore grants no permissions beyond those of the caller's key, and a web page that reaches the
server through DNS rebinding has no key to send. One server can serve many accounts. It has no sessions that could be
hijacked.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from kataven.client.options import is_this_machine
from kataven.mcp_server.callers import callers_with_keys, client_for_key
from kataven.mcp_server.refusals import RequireApiKey
from kataven.mcp_server.tools import create_server

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8808
PATH = "/mcp"
MAX_BODY_BYTES = 1024 * 1024


class UnsafeAddressError(Exception):
    """The address can be reached from other machines, but no allowed host is configured."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address to listen on, and the `Host` and `Origin` values to accept."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()
    """Values of `Host` to accept in addition to this machine's names: the names of a proxy in front."""
    allowed_origins: tuple[str, ...] = ()
    """Values of `Origin` to accept. Web pages send this header; other programs don't."""

    def check(self) -> None:
        """Raises UnsafeAddressError if other machines could reach the server under any `Host`."""
        if not is_this_machine(self.host) and not self.allowed_hosts:
            raise UnsafeAddressError(
                f"{self.host} can be reached from other machines. Set --allowed-host to the host name that they use, "
                "and run a proxy with TLS in front, because callers send their API keys."
            )


def create_app(address: Address, base_url: str | None) -> ASGIApp:
    """The ASGI application, which serves `/mcp`."""
    here = [f"{name}:{address.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    security = TransportSecuritySettings(
        allowed_hosts=[*here, *address.allowed_hosts], allowed_origins=list(address.allowed_origins)
    )
    client_of = client_for_key(base_url)
    app = create_server(callers_with_keys(client_of)).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=security,
    )
    return RequireApiKey(app, client_of)
