"""Fixtures for all tests: a PostgreSQL and a Redis server per pytest worker, and no network beyond this machine."""

from __future__ import annotations

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
from kataven.loopback import is_loopback
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
]  # fixtures that are defined next to the code that they provide

# By default, Hypothesis fails an example that takes over 200 ms, which depends on the load of the machine.
settings.register_profile("kataven", deadline=None)
settings.load_profile("kataven")


@pytest.fixture(scope="session", autouse=True)
def network_is_off() -> Iterator[None]:
    """A test that connects to another machine fails immediately. Unix sockets and loopback addresses are allowed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _on_this_machine_only(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _names_of_this_machine_only(socket.getaddrinfo))
        yield


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A scratch folder that the PostgreSQL user can access. If root runs the tests, only root can access `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """This worker's PostgreSQL; `postgres.url(name)` is the URL of a database in it."""
    with EmbeddedPostgres(server_folder / "postgres", fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[EmbeddedRedis]:
    """This worker's Redis, without persistence."""
    with EmbeddedRedis(server_folder / "redis", persistent=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of this worker's Redis, which is emptied first."""
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
    if not is_loopback(host.partition("%")[0], subdomains=True):
        # Not an Exception, so that an `except Exception` in the code under test can't catch it.
        pytest.fail(f"the network is disabled in tests, and the test accessed {host}")
