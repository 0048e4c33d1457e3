"""Streamable HTTP. The server holds no key of its own: each caller shows one with every request.

So whoever can reach the port can do nothing with it that they could not do at the API, a web page that gets here by DNS
rebinding has no key to show, and one server may serve many accounts. There are no sessions, hence none to steal.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from kataven.mcp_server.callers import bearer, callers_with_keys
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
    app = create_server(callers_with_keys(base_url)).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=security,
    )
    return RequireKey(app)


class RequireKey:
    """ASGI middleware: without a bearer token nothing is looked at. Whether it is a good one, the API decides."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and bearer(Headers(scope=scope).get("authorization")) is None:
            answer = PlainTextResponse(
                "Send your Kataven API key: `Authorization: Bearer sk_live_...`.\n",
                401,
                {"WWW-Authenticate": 'Bearer realm="kataven"'},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
