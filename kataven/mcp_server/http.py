"""Streamable HTTP. The server holds no key of its own: each caller shows one with every request.

So whoever can reach the port can do nothing with it that they could not do at the API, a web page that gets here by DNS
rebinding has no key to show, and one server may serve many accounts. There are no sessions, hence none to steal.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from kataven.mcp_server.callers import callers_with_keys, client_for_key
from kataven.mcp_server.refusals import RequireKey
from kataven.mcp_server.tools import create_server

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8808
PATH = "/mcp"
MAX_BODY_BYTES = 1024 * 1024


class UnsafeAddress(Exception):
    """The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and as whom to be addressed."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()
    """Values of `Host` besides this machine's names: those of a proxy in front."""
    allowed_origins: tuple[str, ...] = ()
    """Values of `Origin` that are let in. Programs send none; web pages do."""

    def check(self) -> None:
        """Raises UnsafeAddress for a server that other machines could reach under any name."""
        if not _is_this_machine(self.host) and not self.allowed_hosts:
            raise UnsafeAddress(
                f"{self.host} can be reached from other machines. Name the host that they use with --allowed-host, and "
                "put a proxy with TLS in front: callers send their API keys."
            )


def create_app(address: Address, base_url: str | None) -> ASGIApp:
    """The ASGI application, at `/mcp`."""
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
    return RequireKey(app, client_of)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
