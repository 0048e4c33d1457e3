"""`flask revocation …`: the promise, measured on the running product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import httpx2
from flask.cli import AppGroup
from redis.exceptions import RedisError
from sqlalchemy import delete

from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, AuditEvent
from kataven.commands.output import as_json, console, plainly, show, show_one
from kataven.identity.token import TokenKind
from kataven.revocation.canary import Spread
from kataven.revocation.receipt import Receipt
from kataven.revocation.scope import EVERYTHING, Scope
from kataven.system import lifecycle, limits
from kataven.system.sessions import AccountSessions
from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER
from kataven.web.services import Services, services

CANARY_ACCOUNT = "kataven-canary"
CANARY = Actor("cli:canary", "revocation measure")
PLENTY = {"per_minute": 1_000_000, "per_hour": 10_000_000, "per_day": 100_000_000, "concurrent": 1_000}
DISCOVERY_REQUESTS = 60
MOST_REQUESTS_TO_WARM = 2_000


class MeasurementFailed(ValueError):
    """The product can't be measured; the text says why."""


def group(api_url: str) -> AppGroup:
    """The commands; `api_url` is where the API is looked for unless another one is named."""
    revocation = AppGroup("revocation", help="Revoked means revoked: the workers, and how fast they forget.")

    @revocation.command("measure")
    @click.option("--n", "rounds", type=click.IntRange(min=1), default=300, show_default=True, help="How many keys.")
    @click.option("--url", default=api_url, show_default=True, help="Where the API answers.")
    @as_json
    @plainly
    def measure(rounds: int, url: str, as_json: bool) -> None:
        """Mint a key, use it on every worker, revoke it, use it again; as often as you like, then say how long it took.

        Exit status 1 if a revoked key was accepted once.
        """
        with Measurement.begin(services(), url) as measurement:
            for done in range(1, rounds + 1):
                measurement.round()
                if console().is_terminal:
                    click.echo(f"\r{done} of {rounds}", nl=done == rounds, err=True)
        show(measurement.rows(), as_json=as_json)
        if measurement.accepted:
            raise click.ClickException(f"{measurement.accepted} revoked keys were accepted after their receipt.")

    @revocation.command("flush")
    @as_json
    @plainly
    def flush(as_json: bool) -> None:
        """Have every worker forget everything it remembers, and show the receipt. Costs each key one verification."""
        show_one(services().revocation.revoke(EVERYTHING).as_json(), as_json=as_json)

    @revocation.command("workers")
    @as_json
    @plainly
    def workers(as_json: bool) -> None:
        """List the workers that a revocation waits for."""
        try:
            members = services().revocation.workers()
        except RedisError as error:
            raise click.ClickException("Redis can't be reached; see KATAVEN_REDIS_URL.") from error
        rows = [
            {"host": member.host, "pid": member.pid, "confirmed_s_ago": round(member.confirmed_seconds_ago, 2)}
            for member in members
        ]
        show(rows, as_json=as_json, empty="No worker is running.")

    return revocation


@dataclass
class Measurement:
    """Rounds of mint, warm, revoke and check, against the API at one address."""

    services: Services
    sessions: AccountSessions
    client: httpx2.Client
    workers: set[str] = field(default_factory=set)
    receipts: list[Receipt] = field(default_factory=list)
    accepted: int = 0

    @classmethod
    @contextmanager
    def begin(cls, found: Services, url: str) -> Iterator[Measurement]:
        """Raises MeasurementFailed if there is no API at `url`."""
        _ensure_account(found)
        # A connection for each request, so that every worker gets some.
        limits_ = httpx2.Limits(max_keepalive_connections=0)
        with httpx2.Client(base_url=url, limits=limits_, headers={MEASURE_HEADER: "1"}, timeout=10) as client:
            measurement = cls(found, AccountSessions(found.directory, found.registry), client)
            try:
                measurement._discover()
                yield measurement
            finally:
                measurement._clean_up()

    def round(self) -> None:
        """One key, from its minting to its refusal."""
        key_id, text = self._mint()
        self._warm(text)
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            api_keys.revoke(session, key_id, CANARY)
        self.receipts.append(self.services.revocation.revoke(Scope(CANARY_ACCOUNT, str(key_id))))
        self.accepted += sum(self._use(text).status_code == httpx2.codes.OK for _ in range(2 * len(self.workers)))

    def rows(self) -> list[dict[str, Any]]:
        """What was measured, in milliseconds."""
        evictions = [r.publish_to_last_ack_ms for r in self.receipts if r.publish_to_last_ack_ms is not None]
        return [
            _row("publish to last eviction", evictions, len(self.workers)),
            _row("whole call", [receipt.ms for receipt in self.receipts], len(self.workers)),
        ]

    def _discover(self) -> None:
        _, text = self._mint()
        try:
            for _ in range(DISCOVERY_REQUESTS):
                self.workers.add(self._use(text).headers.get(WORKER_HEADER, ""))
        except httpx2.TransportError as error:
            raise MeasurementFailed(f"No API answers at {self.client.base_url}; name it with --url.") from error

    def _clean_up(self) -> None:
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            session.execute(delete(ApiKey))
            session.execute(delete(AuditEvent))

    def _mint(self) -> tuple[Any, str]:
        issued = self.services.issuer.issue(TokenKind.API_KEY, CANARY_ACCOUNT)
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            return api_keys.issue(session, "canary", issued, None, CANARY).id, issued.text

    def _warm(self, text: str) -> None:
        cold = set(self.workers)
        for _ in range(MOST_REQUESTS_TO_WARM):
            answer = self._use(text)
            if answer.status_code != httpx2.codes.OK:
                raise MeasurementFailed(f"A good key was answered {answer.status_code} at {self.client.base_url}.")
            cold.discard(answer.headers[WORKER_HEADER])
            if not cold:
                return
        raise MeasurementFailed("Not every worker could be reached; some of them may just have been replaced.")

    def _use(self, text: str) -> httpx2.Response:
        return self.client.get("/v1/me", headers={"Authorization": f"Bearer {text}"})


def _row(what: str, samples: list[float], workers: int) -> dict[str, Any]:
    spread = Spread.of(samples)
    if spread is None:
        return {"ms": what, "workers": workers, "n": 0, "p50": None, "p99": None, "max": None}
    figures = {"p50": round(spread.p50, 2), "p99": round(spread.p99, 2), "max": round(spread.max, 2)}
    return {"ms": what, "workers": workers, "n": len(samples), **figures}


def _ensure_account(found: Services) -> None:
    if found.directory.read(CANARY_ACCOUNT) is None:
        new = lifecycle.NewAccount(CANARY_ACCOUNT, "Kataven's own canary")
        lifecycle.create(found.directory.database, new, actor="cli")
        with found.directory.database.writing() as session:
            limits.change(session, CANARY_ACCOUNT, PLENTY)
