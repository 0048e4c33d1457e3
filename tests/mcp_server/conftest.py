"""The MCP server as users run it, over either transport, before the real API; and the official client."""

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
"""A connected client of the server, acting with this key."""


@dataclass(frozen=True)
class HttpServer:
    """`kataven-mcp --http`, running."""

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
    """What the server is told; a key only where it shall have one of its own."""
    told = {**os.environ, "KATAVEN_BASE_URL": f"{api.url}/v1"}
    told.pop("KATAVEN_API_KEY", None)
    return told if key is None else {**told, "KATAVEN_API_KEY": key}


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
async def over_stdio(told: dict[str, str], log: Path) -> AsyncIterator[Client]:
    command = StdioServerParameters(command=sys.executable, args=["-m", "kataven.mcp_server"], env=told, cwd=CHECKOUT)
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


def said(result: Any) -> str:
    """The text that a model reads."""
    return "\n".join(part.text for part in result.content)


def found(result: Any) -> Any:
    """What a call gave, which it must have; the text for models says the same as the structure for programs."""
    assert not result.is_error, said(result)
    assert json.loads(said(result)) == result.structured_content
    return result.structured_content


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
