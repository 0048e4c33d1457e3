"""The cost of the first request with a key or for an account, compared with the minimum."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg2
from sqlalchemy import select, text

from kataven import assembly, settings
from kataven.account.models import Agent, ApiKey
from kataven.authservice.client import AuthServiceChannel, RemoteVerifier
from kataven.identity.credential import ApiKeyCredential
from kataven.system.history_check import HistoryWatch
from tests.support.app_harness import AppHarness
from tests.support.auth_service import Service, serves
from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until

SLICE = 40


def compare(harness: AppHarness, folder: Path, rounds: int) -> bool:
    """Print the table. Returns whether every ratio is within its ceiling."""
    configured = settings.load(harness.environ)
    parts = assembly.foundation(configured)
    verifier = assembly.local_verifier(configured, parts)
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    record = parts.directory.read("acme")
    assert record is not None
    tenant = record.tenant
    address = f"127.0.0.1:{free_port()}"
    remote = RemoteVerifier(connection := AuthServiceChannel(address), parts.directory.version)
    key_id = verifier.verify(credential).id
    dsn = tenant.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def select_one() -> None:
        with parts.registry.reading(tenant) as session:
            session.execute(select(ApiKey.id).where(ApiKey.id == key_id)).one()

    def evict() -> None:
        parts.registry.forget("acme")

    def cold() -> None:
        with parts.registry.reading(tenant) as session:
            session.execute(text("SELECT 1"))
            session.scalars(select(Agent).limit(10)).all()

    def replacing_another() -> None:
        evict()
        cold()

    opened: list[Any] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def without_orm() -> None:
        opened.append(connection := psycopg2.connect(dsn))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.execute("SELECT * FROM agents LIMIT 10")
            cursor.fetchall()

    verifier.verify(credential)
    HistoryWatch(parts.directory.database, parts.histories).handle_reports()  # as in a worker
    parts.revocation.start()  # a lease, so that the account is cached as in a worker
    wait_until(parts.revocation.guard.leases_valid, 10)
    with Service(harness.environ, folder / "auth-service.log", address):
        wait_until(lambda: serves(address), 20)
        taken = _alternate(
            {
                "select": Work(select_one),
                "miss": Work(lambda: verifier.verify(credential)),
                "remote": Work(lambda: remote.verify(credential)),
                "cold": Work(cold, before=evict),
                "displacing": Work(replacing_another),
                "plain": Work(without_orm, before=close),
            },
            rounds,
        )
    close()
    connection.close()
    parts.revocation.stop()
    parts.registry.close()
    print("\nwithout caches, in milliseconds")
    rows = (
        ("(d) a cache miss in the process, compared with one indexed SELECT", "miss", "select", 1.5),
        ("(e) a cache miss by the auth-service, compared with the same", "remote", "select", 4.0),
        ("(f) a cold account, compared with psycopg2, same statements", "cold", "plain", 2.0),
        ("    the same, if it replaces another account's connection", "displacing", "plain", None),
    )
    passed = True
    for label, name, baseline, ceiling in rows:
        ratio = median(a / b for a, b in zip(taken[name], taken[baseline], strict=True))
        is_over = ceiling is not None and ratio > ceiling
        passed = passed and not is_over
        figures = f"{median(taken[name]) * 1000:6.2f} / {median(taken[baseline]) * 1000:.2f}"
        verdict = "" if ceiling is None else f"   at most {ceiling:.1f}{'   OVER' if is_over else ''}"
        print(f"  {label:<64} {figures:>14}   {ratio:5.2f}{verdict}")
    return passed


@dataclass(frozen=True)
class Work:
    """The code that is timed, and the code that runs before it without being timed."""

    timed: Callable[[], object]
    before: Callable[[], object] = lambda: None


def _alternate(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """The seconds of one call of each, by round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(5):
            work.before()
            work.timed()
    for _ in range(rounds):
        for name, work in works.items():
            seconds = 0.0
            for _ in range(SLICE):
                work.before()
                started_at = time.perf_counter()
                work.timed()
                seconds += time.perf_counter() - started_at
            taken[name].append(seconds / SLICE)
    return taken
