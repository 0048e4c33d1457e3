"""Fixtures for all tests: a PostgreSQL and a Redis server per pytest worker, and no network beyond this machine."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
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
from tests.support import certificate_authorities
from tests.support.app_harness import acme_key, alice, bob, charlie, harness, shared_redis
from tests.support.independent_issuer import independent_issuers
from tests.support.kept_servers import Slot, root, taken_slot
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

# The tests start hundreds of processes of the product. Without bytecode files, each would compile all of its modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Collecting 6,000 tests creates objects that stay: garbage collection would only search them, again and again.
gc.disable()

certificate_authorities.read_once()

# By default, Hypothesis fails an example that takes over 200 ms, which depends on the load of the machine.
settings.register_profile("kataven", deadline=None)
settings.load_profile("kataven")


TARGETS = {
    "browser": "test-pages",
    "processes": "test-processes",
    "searches": "test-searches",
    "programs": "test-programs",
    "pgbouncer": "poolers",
    "clients": "clients",
}
"""The targets of the Makefile that run the tests with a marker. `make test` runs the tests without any of these."""

LONGEST_FIRST = (
    "tests/hub/test_browser.py",
    "tests/hub/test_key_pages_browser.py",
    "tests/hub/test_reference_browser.py",
    "tests/faults/test_faults.py",
    "tests/test_revocation_fault_scenarios.py",
    "tests/dev/test_run.py",
    "tests/hub/test_migrations.py",
    "tests/commands/test_dumps.py",
    "tests/test_docs_site.py",
    "tests/web/test_openapi_requests.py",
    "tests/revocation/test_interleavings.py",
    "tests/web/test_walks.py",
    "tests/hub/test_served_revisions.py",
    "tests/hub/test_every_form.py",
    "tests/mcp_server/test_tools.py",
    "tests/authservice/test_service.py",
    "tests/embedding/test_examples.py",
    "tests/test_two_hosts.py",
    "tests/test_telemetry.py",
    "tests/tenancy/test_fleet.py",
)
"""The files that take longest. Several processes start with them: one that started last would run alone at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reuse-servers",
        action="store_true",
        help="use PostgreSQL and Redis servers that outlive the run, emptied first; see docs/development.md",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if repeated := [item.nodeid for item in items if len(targets_of(item)) > 1]:
        raise pytest.UsageError(f"tests that several targets of the Makefile run: {', '.join(repeated)}")
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        place = {file: at for at, file in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def targets_of(item: pytest.Item) -> set[str]:
    return {TARGETS[marker.name] for marker in item.iter_markers() if marker.name in TARGETS}


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


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
def kept_servers(pytestconfig: pytest.Config) -> Iterator[Slot | None]:
    """With `--reuse-servers`, servers of an earlier run that no other run uses, emptied. Otherwise None."""
    if not pytestconfig.getoption("reuse_servers"):
        yield None
        return
    with taken_slot(root()) as slot:
        yield slot


@pytest.fixture(scope="session")
def postgres(kept_servers: Slot | None, server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """This worker's PostgreSQL; `postgres.url(name)` is the URL of a database in it."""
    if kept_servers is not None:
        yield kept_servers.postgres
        return
    with EmbeddedPostgres(server_folder / "postgres", fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(kept_servers: Slot | None, server_folder: Path) -> Iterator[EmbeddedRedis]:
    """This worker's Redis, without persistence."""
    if kept_servers is not None:
        yield kept_servers.redis
        return
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
