"""Starts the systems on one core, with the same 10 agents in PostgreSQL."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine, create_engine, insert, make_url, select

from bench.peers import installation
from bench.peers.measuring import pids_of
from bench.peers.systems import LIST, System
from kataven.account.models import Agent
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT, free_port
from tests.support.waiting import wait_until

AGENTS = 10
ACCOUNT = "acme"
DATABASE = "peers"
"""The database of the systems that have tables of their own. Its agents are copies of the account's."""
START_SECONDS = 60
REFUSED = (400, 401, 403)
"""400: the text has not the form of a key."""


@dataclass(frozen=True)
class Server:
    """A running system, and the key that it accepts."""

    system: System
    url: str
    key: str = field(repr=False)
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """The servers that all systems share."""

    harness: AppHarness
    folder: Path
    core: int
    key: str = field(repr=False)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @contextlib.contextmanager
    def running(self, system: System) -> Iterator[Server]:
        """Start a system on the core. Raises RuntimeError if it doesn't return the agents, or accepts a wrong key."""
        port = free_port()
        environ = self._environ(system, port)
        folder = installation.APPS if system.language == installation.PYTHON else CHECKOUT
        key = self._prepared_key(system, environ, folder)
        log = self.folder / f"{system.id}.log"
        arguments = [each.replace("{port}", str(port)) for each in system.serve]
        with log.open("ab") as output, _on_core(self.core):  # threads and child processes inherit the core
            process = subprocess.Popen(
                [system.program, *arguments],
                cwd=folder,
                env=environ,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: process.poll() is not None or _accepts(url, key), START_SECONDS, lambda: _end_of(log))
            if process.returncode is not None:
                raise RuntimeError(f"{system.id} ended with exit status {process.returncode}: {_end_of(log)}")
            _check(system, url, key)
            yield Server(system, url, key, tuple(pids_of(process.pid)))
        finally:
            process.terminate()
            process.wait(20)

    def redis_url(self, database: int) -> str:
        return self.harness.environ["KATAVEN_REDIS_URL"].partition("?")[0] + f"?db={database}"

    def _environ(self, system: System, port: int) -> dict[str, str]:
        environ = {**os.environ, **self.harness.environ, "PORT": str(port), "BENCH_SECRET": self.secret}
        if system.language is None:  # the baselines of bench.request read the account's database
            own = {"WORKERS": "1", "THREADS": "4", "MAX_REQUESTS": "0", "BENCH_KEY": self.key}
            database, limits = ACCOUNT, self.redis_url(system.redis_database)
            url = make_url(self.harness.environ["KATAVEN_DATABASE_URL"]).set(database=database)
            return environ | own | {"BENCH_DATABASE": _text(url), "BENCH_REDIS": limits}
        limits, driver = self.redis_url(system.redis_database), "postgresql"
        if "BENCH_KEY_CACHE_SECONDS" in system.environ:  # FastAPI
            limits, driver = limits.replace("unix:", "redis+unix:"), "postgresql+asyncpg"
        url = make_url(self.harness.environ["KATAVEN_DATABASE_URL"]).set(database=DATABASE, drivername=driver)
        return environ | system.environ | {"BENCH_DATABASE": _text(url), "BENCH_LIMITS": limits}

    def _prepared_key(self, system: System, environ: Mapping[str, str], folder: Path) -> str:
        if not system.prepare:
            return self.key
        command = [system.program, *system.prepare]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{system.id} could not create its key: {done.stderr[-2000:]}")
        return done.stdout.split()[-1]


def open_site(harness: AppHarness, folder: Path, core: int) -> Site:
    """Create the agents and the key, and the database of the other systems with copies of them."""
    key = harness.new_key(ACCOUNT)
    with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):  # the access log
        for number in range(AGENTS):
            agent = {"name": f"Agent {number}", "system_prompt": "x" * 40, "greeting_message": "Good day."}
            assert harness.bearer(key).post(LIST, agent).status_code == 201
    url = make_url(harness.environ["KATAVEN_DATABASE_URL"])
    with contextlib.closing(psycopg2.connect(_dsn(url.set(database="postgres")))) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
    with _engine(url, ACCOUNT) as account, account.connect() as connection:
        agents = [dict(row) for row in connection.execute(select(Agent.__table__)).mappings()]
    with _engine(url, DATABASE) as peers, peers.begin() as connection:
        Agent.__table__.create(connection)  # type: ignore[attr-defined]
        connection.execute(insert(Agent.__table__), agents)
        connection.exec_driver_sql("CREATE TABLE peer_keys (digest bytea PRIMARY KEY, account text NOT NULL)")
        digest = hashlib.sha256(key.encode()).digest()
        connection.exec_driver_sql("INSERT INTO peer_keys VALUES (%s, %s)", (digest, ACCOUNT))
    return Site(harness, folder, core, key)


@contextlib.contextmanager
def _on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _engine(url: Any, database: str) -> Iterator[Engine]:
    engine = create_engine(url.set(database=database))
    try:
        yield engine
    finally:
        engine.dispose()


def _dsn(url: Any) -> str:
    return str(make_dsn(dbname=url.database, user=url.username, host=url.query["host"]))


def _text(url: Any) -> str:
    return str(url.render_as_string(hide_password=False))


def _accepts(url: str, key: str) -> bool:
    with contextlib.suppress(OSError):
        return _get(url + LIST, key)[0] == 200
    return False


def _check(system: System, url: str, key: str) -> None:
    status, body = _get(url + LIST, key)
    agents = body["data"] if isinstance(body, dict) else body
    if len(agents) != AGENTS or {each["name"] for each in agents} != {f"Agent {number}" for number in range(AGENTS)}:
        raise RuntimeError(f"{system.id} returned {len(agents)} agents")
    if len(system.paths) == 1:
        return  # it checks no key
    for path in system.paths:
        wrong, _ = _get(url + path, key[:-1] + ("a" if key[-1] != "a" else "b"))
        status, _ = _get(url + path, key)
        if wrong not in REFUSED or status != 200:
            raise RuntimeError(f"{system.id} returned {status} for its key and {wrong} for another key on {path}")


def _get(url: str, key: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})  # noqa: S310  a loopback URL
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None


def _end_of(log: Path) -> str:
    return log.read_text()[-2000:]
