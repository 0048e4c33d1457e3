"""The command `kataven-mcp`: serves one user over stdio, or many callers with their own API keys over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from kataven.client import AsyncKatavenClient, ConfigurationError

INSTALL = "kataven-mcp requires the package `mcp`. Run: pip install 'mcp>=2.3,<3' 'pydantic>=2.14,<3'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server and return the exit status. Errors go to stderr, because the protocol uses stdout."""
    options = parser().parse_args(arguments)
    try:
        import mcp  # noqa: F401
    except ModuleNotFoundError:
        return _fail(INSTALL)
    # Before the library configures logging, which would format each line for a terminal.
    logging.basicConfig(level=logging.WARNING, format="kataven-mcp: %(levelname)s: %(message)s")
    return _serve_http(options) if options.http else _serve_stdio(options)


def parser() -> argparse.ArgumentParser:
    """The command line parser."""
    command = argparse.ArgumentParser(
        prog="kataven-mcp",
        description="MCP server with tools that manage a Kataven account. Over stdio (the default), it uses the API "
        "key in KATAVEN_API_KEY. Over HTTP, each caller sends its own key: `Authorization: Bearer sk_live_…`.",
    )
    command.add_argument(
        "--base-url", help="the API's base URL (default: KATAVEN_BASE_URL, else https://api.kataven.ai/v1)"
    )
    command.add_argument("--http", action="store_true", help="serve streamable HTTP at /mcp")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", default=8808, type=int, help="port to listen on (default: 8808)")
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        help="a `Host` to accept in addition to this machine's names; repeatable",
    )
    command.add_argument(
        "--allowed-origin", action="append", default=[], help="an `Origin` of web pages to accept; repeatable"
    )
    return command


def _serve_stdio(options: argparse.Namespace) -> int:
    from kataven.mcp_server.callers import RETRY, single_caller
    from kataven.mcp_server.startup_check import startup_check
    from kataven.mcp_server.tools import create_server

    try:
        client = AsyncKatavenClient(base_url=options.base_url, retry=RETRY)
    except ConfigurationError as error:
        return _fail(f"kataven-mcp: {error}")
    # Other code in this process, and its child processes, do not need the key.
    os.environ.pop("KATAVEN_API_KEY", None)
    create_server(single_caller(client), startup_check(client, _report)).run("stdio")
    return 0


def _serve_http(options: argparse.Namespace) -> int:
    import uvicorn

    from kataven.client.options import check_base_url
    from kataven.mcp_server.http import Address, UnsafeAddressError, create_app

    address = Address(options.host, options.port, tuple(options.allowed_host), tuple(options.allowed_origin))
    try:
        address.check()
        base_url = check_base_url(options.base_url)
    except (UnsafeAddressError, ConfigurationError) as error:
        return _fail(f"kataven-mcp: {error}")
    uvicorn.run(create_app(address, base_url), host=address.host, port=address.port, server_header=False)
    return 0


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 2


def _report(text: str) -> None:
    sys.stderr.write(f"kataven-mcp: {text}\n")
    sys.stderr.flush()
