"""The promise of revocation, measured on the running product: mint a key, use it, revoke it, use it again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import delete, func

from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, AuditEvent
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.revocation.latency_log import Percentiles
from kataven.revocation.receipt import Receipt, RevocationUnconfirmed
from kataven.revocation.target import RevocationTarget
from kataven.system import limits
from kataven.system.errors import SystemRefusal
from kataven.system.sessions import AccountSessions
from kataven.tenancy.errors import TenancyError
from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER
from kataven.web.services import Services

CANARY_ACCOUNT = "kataven-canary"
CANARY = Actor("cli:canary", "revocation measure")
PLENTY = {"per_minute": 1_000_000, "per_hour": 10_000_000, "per_day": 100_000_000, "concurrent": 1_000}
DISCOVERY_REQUESTS = 60
MOST_REQUESTS_TO_WARM = 2_000
LEFTOVERS_AFTER = timedelta(hours=1)
ROUND_SECONDS = 30.0

log = logging.getLogger(__name__)


class MeasurementFailed(ValueError):
    """The product can't be measured; the text says why."""


@dataclass
class Measurement:
    """Rounds of mint, warm, revoke and check, against the API at one address."""

    services: Services
    sessions: AccountSessions
    client: httpx2.Client
    workers: set[str] = field(default_factory=set)
    receipts: list[Receipt] = field(default_factory=list)
    accepted: int = 0
    deadline: float = math.inf
    """On the monotonic clock: what is not done by then is given up."""
    _minted: list[UUID] = field(default_factory=list)

    @classmethod
    @contextmanager
    def begin(cls, found: Services, url: str, actor: str = "cli") -> Iterator[Measurement]:
        """Raises MeasurementFailed if there is no API at `url`. `actor` makes the account, where there is none yet."""
        _ensure_account(found, actor)
        # A connection for each request, so that every worker gets some.
        limits_ = httpx2.Limits(max_keepalive_connections=0)
        headers = {MEASURE_HEADER: found.internal_access.token or "1"}
        with httpx2.Client(base_url=url, limits=limits_, headers=headers, timeout=10) as client:
            measurement = cls(found, AccountSessions(found.directory, found.registry), client)
            try:
                measurement._discover()
                yield measurement
            except httpx2.TransportError as error:
                raise MeasurementFailed(f"The API at {url} answers no more.") from error
            finally:
                measurement._clean_up()

    def round(self) -> None:
        """One key, from its minting to its refusal."""
        key_id, text = self._mint()
        self._warm(text)
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            api_keys.revoke(session, key_id, CANARY)
            ending = self.services.revocation.write_intent(RevocationTarget(CANARY_ACCOUNT, str(key_id)))
        self.receipts.append(self.services.revocation.revoke(ending))
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
                self.workers.add(self._worker_of(self._use(text)))
        except httpx2.TransportError as error:
            where = f"No API answers at {self.client.base_url}"
            raise MeasurementFailed(f"{where}; set KATAVEN_API_URL, or name it with --url.") from error

    def _clean_up(self) -> None:
        """Take away its own keys, and what a measurement left that was killed: another one may be under way."""
        left = ApiKey.created_at < func.now() - LEFTOVERS_AFTER
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            session.execute(delete(ApiKey).where(ApiKey.id.in_(self._minted) | left))
            session.execute(delete(AuditEvent))

    def _mint(self) -> tuple[UUID, str]:
        issued = self.services.issuer.issue(TokenKind.API_KEY, CANARY_ACCOUNT)
        with self.sessions.writing(CANARY_ACCOUNT) as session:
            key_id = api_keys.issue(session, "canary", issued, None, CANARY).id
        self._minted.append(key_id)
        return key_id, issued.text

    def _warm(self, text: str) -> None:
        cold = set(self.workers)
        for _ in range(MOST_REQUESTS_TO_WARM):
            if time.monotonic() > self.deadline:
                break
            answer = self._use(text)
            if answer.status_code != httpx2.codes.OK:
                raise MeasurementFailed(f"A good key was answered {answer.status_code} at {self.client.base_url}.")
            cold.discard(self._worker_of(answer))
            if not cold:
                return
        raise MeasurementFailed("Not every worker could be reached; some of them may just have been replaced.")

    def _worker_of(self, answer: httpx2.Response) -> str:
        worker = answer.headers.get(WORKER_HEADER)
        if worker is None:
            raise MeasurementFailed(
                f"The API at {self.client.base_url} does not say which worker answered. "
                "Set KATAVEN_METRICS_TOKEN to the same value here and there."
            )
        return worker

    def _use(self, text: str) -> httpx2.Response:
        return self.client.get("/v1/me", headers={"Authorization": f"Bearer {text}"})


class CanaryWatch:
    """One round now and then, each on the workers that there are by then; what came of it is counted and logged."""

    def __init__(self, found: Services, url: str) -> None:
        self._services = found
        self._url = url
        self.broken = 0
        """How often a key was accepted after its receipt."""

    def round(self) -> None:
        """`kept`: refused everywhere after its receipt. `broken`: not. `failed`: it could not be measured."""
        figures: dict[str, Any] = {}
        try:
            with Measurement.begin(self._services, self._url, "canary") as measurement:
                measurement.deadline = time.monotonic() + ROUND_SECONDS
                measurement.round()
        except (MeasurementFailed, SystemRefusal, TenancyError, VerifierUnavailable, RevocationUnconfirmed) as error:
            outcome, figures = "failed", {"why": str(error)}
        else:
            outcome = "broken" if measurement.accepted else "kept"
            self.broken += measurement.accepted
            figures = {
                **measurement.receipts[0].as_json(),
                "evicted_ms": measurement.receipts[0].publish_to_last_ack_ms,
            }
        self._services.metrics.canaries.labels(outcome).inc()
        log.log(logging.INFO if outcome == "kept" else logging.ERROR, "canary", extra={"outcome": outcome, **figures})


def _row(what: str, samples: list[float], workers: int) -> dict[str, Any]:
    spread = Percentiles.of(samples)
    if spread is None:
        return {"ms": what, "workers": workers, "n": 0, "p50": None, "p99": None, "max": None}
    figures = {"p50": round(spread.p50, 2), "p99": round(spread.p99, 2), "max": round(spread.max, 2)}
    return {"ms": what, "workers": workers, "n": len(samples), **figures}


def _ensure_account(found: Services, actor: str) -> None:
    if found.directory.read(CANARY_ACCOUNT) is None:
        new = account_creation.NewAccount(CANARY_ACCOUNT, "Kataven's own canary")
        account_creation.create(found.directory.database, new, actor=actor)
        with found.directory.database.writing() as session:
            limits.change(session, CANARY_ACCOUNT, PLENTY)
        found.revocation.announce(RevocationTarget(CANARY_ACCOUNT))  # a worker may remember that there is none
