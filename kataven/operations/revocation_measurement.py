"""Measure revocation on the running product: create a key, use it on every worker, revoke it, and use it again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import delete, func
from sqlalchemy.exc import DBAPIError

from kataven.account import api_keys, audit
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, AuditEvent
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.operations.operator import Operator, OperatorServices
from kataven.ratelimit.policy import WINDOWS
from kataven.revocation.latency_log import Percentiles
from kataven.revocation.receipt import Receipt, RevocationUnconfirmed
from kataven.revocation.target import RevocationTarget, RevokedKey
from kataven.system import limits, operators, revocation_history
from kataven.system.errors import SystemRefusal
from kataven.system.schema import system_has
from kataven.tenancy.errors import TenancyError
from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER

MEASURED = "revocation.measured"
"""The action in the operator audit log."""
CONSOLE_ROUNDS = 20
CONSOLE_SECONDS = 5.0
CANARY_ACCOUNT = "kataven-canary"
CANARY = Actor("cli:canary", "revocation measure")
CANARY_ROUND = "canary.round"
"""The only event in the audit log of the canary's account: its last round."""
CANARY_LIMITS = {name: 1_000_000 * 10**place for place, name in enumerate(WINDOWS)} | {"concurrent": 1_000}
DISCOVERY_REQUESTS = 60
MAX_WARM_UP_REQUESTS = 2_000
LEFTOVERS_AFTER = timedelta(hours=1)
CANARY_ROUND_SECONDS = 30.0

log = logging.getLogger(__name__)


class MeasurementFailed(ValueError):
    """Revocation could not be measured; the message gives the reason."""


@dataclass
class Measurement:
    """Rounds of create, warm up, revoke and check, against the API at one address."""

    operator: Operator
    client: httpx2.Client
    workers: set[str] = field(default_factory=set)
    receipts: list[Receipt] = field(default_factory=list)
    accepted: int = 0
    """How often a key was accepted after its receipt."""
    deadline: float = math.inf
    """Monotonic time at which a round stops warming up and fails."""
    _key_ids: list[UUID] = field(default_factory=list)

    @classmethod
    @contextmanager
    def begin(cls, operator: Operator, url: str) -> Iterator[Measurement]:
        """Find the workers behind `url`. Creates the canary account if it does not exist.

        Raises MeasurementFailed if the API does not respond.
        """
        _ensure_account(operator)
        # One connection per request, so that the requests are distributed over all workers.
        no_keepalive = httpx2.Limits(max_keepalive_connections=0)
        headers = {MEASURE_HEADER: operator.services.internal_access.token or "1"}
        with httpx2.Client(base_url=url, limits=no_keepalive, headers=headers, timeout=10) as client:
            measurement = cls(operator, client)
            try:
                measurement._discover()
                yield measurement
            except httpx2.TransportError as error:
                raise MeasurementFailed(f"The API at {url} stopped responding.") from error
            finally:
                measurement._clean_up()

    def round(self) -> None:
        """Create one key, revoke it, and count how often it is accepted after its receipt."""
        key_id, text = self._create_key()
        self._warm_up(text)
        revocation = self.operator.services.revocation
        with self.operator.sessions.writing(CANARY_ACCOUNT) as session:
            api_keys.revoke(session, key_id, CANARY)
            target = RevocationTarget(CANARY_ACCOUNT, str(key_id))
            intent = revocation.write_intent(target, RevokedKey(CANARY_ACCOUNT, str(key_id)))
        self.receipts.append(revocation.revoke(intent))
        self.accepted += sum(self._use(text).status_code == httpx2.codes.OK for _ in range(2 * len(self.workers)))

    def rows(self) -> list[dict[str, Any]]:
        """The measured durations, in milliseconds."""
        evictions = [r.publish_to_last_ack_ms for r in self.receipts if r.publish_to_last_ack_ms is not None]
        return [
            _row("publish to last eviction", evictions, len(self.workers)),
            _row("whole call", [receipt.ms for receipt in self.receipts], len(self.workers)),
        ]

    def _discover(self) -> None:
        _, text = self._create_key()
        try:
            for _ in range(DISCOVERY_REQUESTS):
                self.workers.add(self._worker_of(self._use(text)))
        except httpx2.TransportError as error:
            where = f"No API responds at {self.client.base_url}"
            raise MeasurementFailed(f"{where}. Set KATAVEN_API_URL, or pass the address with --url.") from error

    def _clean_up(self) -> None:
        """Delete this measurement's keys, and old keys of measurements that were killed.

        Recent keys are kept: they may belong to a measurement that runs at the same time.
        """
        left_over = ApiKey.created_at < func.now() - LEFTOVERS_AFTER
        with self.operator.sessions.writing(CANARY_ACCOUNT) as session:
            session.execute(delete(ApiKey).where(ApiKey.id.in_(self._key_ids) | left_over))
            session.execute(delete(AuditEvent))

    def _create_key(self) -> tuple[UUID, str]:
        issued = self.operator.services.issuer.issue(TokenKind.API_KEY, CANARY_ACCOUNT)
        with self.operator.sessions.writing(CANARY_ACCOUNT) as session:
            key_id = api_keys.issue(session, "canary", issued, None, CANARY).id
        self._key_ids.append(key_id)
        return key_id, issued.text

    def _warm_up(self, text: str) -> None:
        """Use the key until every worker has cached it."""
        cold = set(self.workers)
        for _ in range(MAX_WARM_UP_REQUESTS):
            if time.monotonic() > self.deadline:
                break
            response = self._use(text)
            if response.status_code != httpx2.codes.OK:
                raise MeasurementFailed(
                    f"The API at {self.client.base_url} returned {response.status_code} for a valid key."
                )
            cold.discard(self._worker_of(response))
            if not cold:
                return
        raise MeasurementFailed("Not every worker could be reached. Some may have been replaced just now; try again.")

    def _worker_of(self, response: httpx2.Response) -> str:
        worker = response.headers.get(WORKER_HEADER)
        if worker is None:
            raise MeasurementFailed(
                f"The API at {self.client.base_url} did not report which worker responded. "
                "Set KATAVEN_METRICS_TOKEN to the same value for the API and for this command."
            )
        return worker

    def _use(self, text: str) -> httpx2.Response:
        return self.client.get("/v1/me", headers={"Authorization": f"Bearer {text}"})


def measure_for_console(operator: Operator, api_url: str) -> dict[str, Any]:
    """Measure for a few seconds, record the result in the operator audit log, and return it.

    Raises MeasurementFailed, and the errors of a revocation.
    """
    deadline = time.monotonic() + CONSOLE_SECONDS
    with Measurement.begin(operator, api_url) as measurement:
        measurement.deadline = deadline
        for _ in range(CONSOLE_ROUNDS):
            measurement.round()
            if time.monotonic() > deadline:
                break
    result = {"rows": measurement.rows(), "accepted": measurement.accepted}
    with operator.system.writing() as session:
        operators.record(session, operator.name, MEASURED, detail=result)
    return result


class CanaryWatch:
    """Runs single rounds for `flask revocation canary`; each result is counted and logged."""

    def __init__(self, services: OperatorServices, url: str) -> None:
        self._operator = Operator("canary", services)
        self._url = url
        self.broken = 0
        """How often a key was accepted after its receipt."""

    def round(self) -> None:
        """Run one round against the workers that are running now.

        The outcome is `kept` if every worker refused the key after its receipt, `broken` if one accepted it, and
        `failed` if the round could not be measured.
        """
        figures: dict[str, Any] = {}
        try:
            with Measurement.begin(self._operator, self._url) as measurement:
                measurement.deadline = time.monotonic() + CANARY_ROUND_SECONDS
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
        self._record(outcome, figures)
        if outcome != "failed":
            self._add_to_history(measurement.receipts)
        self._operator.services.metrics.canaries.labels(outcome).inc()
        log.log(logging.INFO if outcome == "kept" else logging.ERROR, "canary", extra={"outcome": outcome, **figures})

    def _add_to_history(self, receipts: Sequence[Receipt]) -> None:
        with suppress(SystemRefusal, DBAPIError, TenancyError), self._operator.system.writing() as session:
            if system_has(session, revocation_history.NEEDED_REVISION):
                now = time.time()
                revocation_history.add(session, revocation_history.CANARY, [(now, receipt) for receipt in receipts])

    def _record(self, outcome: str, figures: dict[str, Any]) -> None:
        """Record the round in the canary's own account, for `kataven status`. The next round deletes the event."""
        with (
            suppress(TenancyError, VerifierUnavailable, DBAPIError),
            self._operator.sessions.writing(CANARY_ACCOUNT) as session,
        ):
            audit.record(session, CANARY, CANARY_ROUND, None, {"outcome": outcome, **figures})


def _row(what: str, samples: list[float], workers: int) -> dict[str, Any]:
    spread = Percentiles.of(samples)
    if spread is None:
        return {"ms": what, "workers": workers, "n": 0, "p50": None, "p99": None, "max": None}
    figures = {"p50": round(spread.p50, 2), "p99": round(spread.p99, 2), "max": round(spread.max, 2)}
    return {"ms": what, "workers": workers, "n": len(samples), **figures}


def _ensure_account(operator: Operator) -> None:
    services = operator.services
    if services.directory.read(CANARY_ACCOUNT) is None:
        new = account_creation.NewAccount(CANARY_ACCOUNT, "Kataven's own canary")
        account_creation.create(operator.system, new, actor=operator.name)
        with operator.system.writing() as session:
            limits.change(session, CANARY_ACCOUNT, CANARY_LIMITS)
        services.revocation.announce(RevocationTarget(CANARY_ACCOUNT))  # workers may have cached that it doesn't exist
