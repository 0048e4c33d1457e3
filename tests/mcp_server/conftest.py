"""Fixtures that run the MCP server over both transports against the real API, with the official MCP client."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT, Gunicorn, free_port
from tests.support.waiting import wait_until

Connect = Callable[[str], AbstractAsyncContextManager[Client]]
"""Opens an MCP client that is connected to the server and uses the given key."""


@dataclass(frozen=True)
class HttpServer:
    """A running `kataven-mcp --http`."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@pytest.fixture(scope="module")
def api(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("mcp-api") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def http_server(api: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    server = HttpServer(free_port(), tmp_path_factory.mktemp("mcp") / "log")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kataven.mcp_server", "--http", "--port", str(server.port)],
            cwd=CHECKOUT,
            env=environ(api),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _listens(server.port), 60, lambda: server.log.read_text()[-2000:])
        yield server
    finally:
        process.terminate()
        process.wait(20)


def environ(api: Gunicorn, key: str | None = None) -> dict[str, str]:
    """Environment variables for the server. Without `key`, it has no API key."""
    variables = {**os.environ, "KATAVEN_BASE_URL": f"{api.url}/v1"}
    variables.pop("KATAVEN_API_KEY", None)
    return variables if key is None else {**variables, "KATAVEN_API_KEY": key}


@pytest.fixture
def stdio_log(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture(params=["stdio", "http"])
def connect(request: pytest.FixtureRequest, api: Gunicorn, stdio_log: Path) -> Connect:
    if request.param == "stdio":
        return lambda key: over_stdio(environ(api, key), stdio_log)
    server = request.getfixturevalue("http_server")
    return lambda key: over_http(server.url, key)


@asynccontextmanager
async def over_stdio(variables: dict[str, str], log: Path) -> AsyncIterator[Client]:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "kataven.mcp_server"], env=variables, cwd=CHECKOUT
    )
    with log.open("w") as errlog:
        async with Client(stdio_client(command, errlog=errlog), read_timeout_seconds=60) as client:
            yield client


@asynccontextmanager
async def over_http(url: str, key: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), read_timeout_seconds=60) as client,
    ):
        yield client


def message_text(result: Any) -> str:
    """The text of a result, as a model reads it."""
    return "\n".join(part.text for part in result.content)


def structured_result(result: Any) -> Any:
    """The structured content of a successful call. Asserts that the text for models equals it."""
    assert not result.is_error, message_text(result)
    assert json.loads(message_text(result)) == result.structured_content
    return result.structured_content


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
