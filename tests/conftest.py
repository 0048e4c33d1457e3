"""What every test may use: a real PostgreSQL and a real Redis for each pytest worker, no network but this machine."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from tests.support.app_harness import acme_key, alice, bob, charlie, harness, shared_redis
from tests.support.independent_issuer import independent_issuers
from tests.support.oidc import issuer

__all__ = [
    "acme_key",
    "alice",
    "bob",
    "charlie",
    "harness",
    "shared_redis",
    "independent_issuers",
    "issuer",
]  # fixtures that live beside what they give

# Hypothesis fails an example that takes over 200 ms, which says how busy the machine is and nothing of the code.
settings.register_profile("kataven", deadline=None)
settings.load_profile("kataven")


@pytest.fixture(scope="session", autouse=True)
def network_is_off() -> Iterator[None]:
    """A test that asks for another machine fails, at once and loudly. Unix sockets and loopback are this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _on_this_machine_only(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _names_of_this_machine_only(socket.getaddrinfo))
        yield


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A scratch folder that whoever runs PostgreSQL can reach: not root, to whom alone `tmp_path` would be open."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this worker's own; `postgres.url(name)` is the URL of a database in it."""
    with EmbeddedPostgres(server_folder / "postgres", fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[EmbeddedRedis]:
    """A Redis of this worker's own; nothing of it goes to disk."""
    with EmbeddedRedis(server_folder / "redis", persistent=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of this worker's Redis, emptied."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


def _on_this_machine_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            _require_loopback(address[0])
        return connect(self, address)

    return guarded


def _names_of_this_machine_only(getaddrinfo: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
        if host:
            _require_loopback(host.decode() if isinstance(host, bytes) else host)
        return getaddrinfo(host, *arguments, **options)

    return guarded


def _require_loopback(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    if not loopback:
        # Not an Exception, so that no `except Exception` under test can take it for an answer.
        pytest.fail(f"the network is off in tests, and something asked for {host}")
