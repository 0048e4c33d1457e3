"""Kills revokers during a revocation and measures for how long the key is still accepted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench.scenarios.connection import Connection, request
from bench.scenarios.environment import ACCOUNT, Key
from bench.scenarios.site import Site
from kataven.account.models import ApiKey
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Killed:
    """The result of one kill."""

    committed: bool
    """Whether the key is disabled in the database."""
    answered: bool
    """Whether the receipt was returned before the revoker died."""
    accepted_for_seconds: float
    """From the kill to the start of the last request that was accepted; 0 if there was none."""


@contextmanager
def revoker_host(site: Site, folder: Path, lease_seconds: float, application: str = "wsgi:api") -> Iterator[Gunicorn]:
    """A third host with one worker, which revokes and is killed."""
    environ = site.environment.process_settings(site.redis.url, site.environment.database_url, lease_seconds)
    with Gunicorn(environ, folder / "revoker.log", 1, application) as host:
        yield host


def kill(site: Site, host: Gunicorn, moment: float) -> Killed:
    """Make `host` revoke a key that every worker of the site has cached, and kill it during the revocation.

    `moment` is the time of the kill as a multiple of the duration of a change of a key; 0 is when the request is sent.
    """
    key = site.environment.next_key()
    for _ in range(2):
        assert _accepted(site, key) == len(site.workers)
    pid = wait_for_worker(host)
    with closing(Connection(host.port)) as connection:
        seconds = _seconds_of_a_change(site, connection, key)
        connection.send(revocation_of(site, key))
        _rest(moment * seconds)
        os.kill(pid, signal.SIGKILL)
        died_at = time.monotonic()
        answered = _is_answered(connection)
    return follow(site, key, died_at, answered=answered)


def _seconds_of_a_change(site: Site, connection: Connection, key: Key) -> float:
    """The duration of the second change; during the first, the worker opens its connections."""
    for name in ("once", "twice"):
        started = time.perf_counter()
        connection.exchange(request("PATCH", f"/v1/api-keys/{key.id}", site.owner_headers, {"name": name}))
    return time.perf_counter() - started


def follow(site: Site, key: Key, died_at: float, *, answered: bool) -> Killed:
    """Send the key to every worker until all reject it, if it is disabled; otherwise it remains valid."""
    if not is_disabled(site, key):
        return Killed(committed=False, answered=answered, accepted_for_seconds=0.0)
    last_accepted = died_at
    until = died_at + TIMEOUT_SECONDS
    while time.monotonic() < until:
        started = time.monotonic()
        if not _accepted(site, key):
            return Killed(committed=True, answered=answered, accepted_for_seconds=last_accepted - died_at)
        last_accepted = started
    raise TimeoutError(f"a disabled key is still accepted after {TIMEOUT_SECONDS:g} s")


def revocation_of(site: Site, key: Key) -> bytes:
    return request("PATCH", f"/v1/api-keys/{key.id}", site.owner_headers, {"disabled": True})


def wait_for_worker(host: Gunicorn) -> int:
    """The process id of the host's worker, after it has responded."""
    wait_until(lambda: bool(host.worker_pids()), TIMEOUT_SECONDS)
    with closing(Connection(host.port)) as connection:
        connection.exchange(request("GET", "/healthz", {}))
    return host.worker_pids()[0]


def is_disabled(site: Site, key: Key) -> bool:
    """Whether the key is disabled in the account's database. The lock waits for the revoker's transaction."""
    with site.parts.sessions.writing(ACCOUNT) as session:
        row = session.get_one(ApiKey, UUID(key.id), with_for_update=True)
        return row.disabled_at is not None


def _accepted(site: Site, key: Key) -> int:
    """How many workers accept the key."""
    message = request("GET", "/v1/me", {"Authorization": f"Bearer {key.text}"})
    return sum(worker.watcher.exchange(message).status == 200 for worker in site.workers)


def _is_answered(connection: Connection) -> bool:
    try:
        return connection.receive().status == 200
    except (OSError, RuntimeError, ValueError, EOFError):
        return False


def _rest(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
