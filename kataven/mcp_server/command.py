"""`kataven-mcp`: over stdio for one user, or over HTTP for callers with keys of their own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kataven.client import AsyncKatavenClient, ConfigurationError

INSTALL = "kataven-mcp needs its extra: pip install 'kataven-hub[mcp]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; what is wrong stands on stderr, for stdout is the protocol's."""
    given = parser().parse_args(arguments)
    try:
        import mcp  # noqa: F401
    except ModuleNotFoundError:
        return _complain(INSTALL)
    return _serve_http(given) if given.http else _serve_stdio(given)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    found = argparse.ArgumentParser(
        prog="kataven-mcp",
        description="Tools for a model that manages a Kataven account. Over stdio (the default) it uses the API key in "
        "KATAVEN_API_KEY; over HTTP each caller sends one: `Authorization: Bearer sk_live_…`.",
    )
    found.add_argument("--base-url", help="of the API; by default KATAVEN_BASE_URL, else https://api.kataven.ai/v1")
    found.add_argument("--http", action="store_true", help="serve streamable HTTP at /mcp")
    found.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    found.add_argument("--port", default=8808, type=int, help="where to listen (8808)")
    found.add_argument(
        "--allowed-host", action="append", default=[], help="a `Host` to answer to, besides this machine's; repeatable"
    )
    found.add_argument(
        "--allowed-origin", action="append", default=[], help="an `Origin` of web pages to let in; repeatable"
    )
    return found


def _serve_stdio(given: argparse.Namespace) -> int:
    from kataven.mcp_server.callers import RETRY, one_caller
    from kataven.mcp_server.tools import create_server

    try:
        client = AsyncKatavenClient(base_url=given.base_url, retry=RETRY)
    except ConfigurationError as error:
        return _complain(f"kataven-mcp: {error}")
    # What else runs in this process, or is started by it, has no use for the key.
    os.environ.pop("KATAVEN_API_KEY", None)
    create_server(one_caller(client)).run("stdio")
    return 0


def _serve_http(given: argparse.Namespace) -> int:
    import uvicorn

    from kataven.client.options import check_base_url
    from kataven.mcp_server.http import Address, UnsafeAddress, create_app

    address = Address(given.host, given.port, tuple(given.allowed_host), tuple(given.allowed_origin))
    try:
        address.check()
        base_url = check_base_url(given.base_url)
    except (UnsafeAddress, ConfigurationError) as error:
        return _complain(f"kataven-mcp: {error}")
    uvicorn.run(create_app(address, base_url), host=address.host, port=address.port, server_header=False)
    return 0


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 2
