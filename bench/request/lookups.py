"""What a worker pays that does not know a key, or an account, yet: next to the least that it could cost."""

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
from tests.support.app_harness import AppHarness
from tests.support.auth_service import Service, serves
from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until

SLICE = 40


def compare(harness: AppHarness, folder: Path, rounds: int) -> bool:
    """Print the table; whether every ratio is within its ceiling."""
    configured = settings.load(harness.environ)
    parts = assembly.foundation(configured)
    verifier = assembly.local_verifier(configured, parts)
    credential = ApiKeyCredential(harness.new_key("acme"), "acme")
    record = parts.directory.read("acme")
    assert record is not None
    tenant = record.tenant
    address = f"127.0.0.1:{free_port()}"
    remote = RemoteVerifier(connection := AuthServiceChannel(address))
    key_id = verifier.verify(credential).id
    dsn = tenant.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def select_one() -> None:
        with parts.registry.reading(tenant) as session:
            session.execute(select(ApiKey.id).where(ApiKey.id == key_id)).one()

    def forget() -> None:
        parts.registry.forget("acme")

    def cold() -> None:
        with parts.registry.reading(tenant) as session:
            session.execute(text("SELECT 1"))
            session.scalars(select(Agent).limit(10)).all()

    def in_place_of_another() -> None:
        forget()
        cold()

    opened: list[Any] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def plainly() -> None:
        opened.append(connection := psycopg2.connect(dsn))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.execute("SELECT * FROM agents LIMIT 10")
            cursor.fetchall()

    parts.revocation.start()  # a lease, so that the account is remembered as it is in any worker
    wait_until(parts.revocation.guard.leases_valid, 10)
    with Service(harness.environ, folder / "auth-service.log", address):
        wait_until(lambda: serves(address), 20)
        taken = _in_turns(
            {
                "select": Work(select_one),
                "miss": Work(lambda: verifier.verify(credential)),
                "remote": Work(lambda: remote.verify(credential)),
                "cold": Work(cold, before=forget),
                "displacing": Work(in_place_of_another),
                "plain": Work(plainly, before=close),
            },
            rounds,
        )
    close()
    connection.close()
    parts.revocation.stop()
    parts.registry.close()
    print("\nwithout memory, in milliseconds")
    rows = (
        ("(d) a miss in the process, next to one indexed SELECT", "miss", "select", 1.5),
        ("(e) a miss by the auth-service, next to the same", "remote", "select", 4.0),
        ("(f) a cold account, next to psycopg2 and the same statements", "cold", "plain", 2.0),
        ("    the same, if another account's connection is closed for it", "displacing", "plain", None),
    )
    ok = True
    for words, name, beside, ceiling in rows:
        ratio = median(a / b for a, b in zip(taken[name], taken[beside], strict=True))
        is_over = ceiling is not None and ratio > ceiling
        ok = ok and not is_over
        figures = f"{median(taken[name]) * 1000:6.2f} / {median(taken[beside]) * 1000:.2f}"
        verdict = "" if ceiling is None else f"   at most {ceiling:.1f}{'   OVER' if is_over else ''}"
        print(f"  {words:<62} {figures:>14}   {ratio:5.2f}{verdict}")
    return ok


@dataclass(frozen=True)
class Work:
    """What is timed, and what has to happen before it and is not."""

    timed: Callable[[], object]
    before: Callable[[], object] = lambda: None


def _in_turns(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds for one call of each, by rounds."""
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
                began = time.perf_counter()
                work.timed()
                seconds += time.perf_counter() - began
            taken[name].append(seconds / SLICE)
    return taken
