"""The state of the installation in a few figures, for `kataven status`. Reads the system database and Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import func, select

from kataven.account import audit
from kataven.identity.errors import VerifierUnavailable
from kataven.operations import migration_runs
from kataven.operations.operator import Operator
from kataven.operations.revocation_measurement import CANARY_ACCOUNT, CANARY_ROUND
from kataven.revocation.coordination import Member
from kataven.system import accounts, operators, schema, servers
from kataven.system.models import OperatorEvent, RevocationIntent, RunState
from kataven.tenancy.errors import TenancyError

NEWEST = 50
"""The number of events of the operator audit log that are searched for a receipt."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures. Times are in ISO 8601."""

    system_revision: str | None
    accounts: Mapping[str, int]
    """By status."""
    revisions: Mapping[str | None, int]
    servers: Sequence[tuple[str, int, bool]]
    """Name, number of accounts, and whether no new accounts are placed there."""
    workers: Sequence[Member] | None
    """None if Redis is unavailable."""
    last_canary: Mapping[str, Any] | None
    """The time and outcome of the canary's last round."""
    last_revocation: Mapping[str, Any] | None
    """The newest receipt in the operator audit log."""
    intents: int
    migration_run: str | None
    """The state of the last run, if it is not done."""


def read(operator: Operator) -> Overview:
    """Raises SystemDatabaseUnavailable."""
    with operator.system.reading() as session:
        run = migration_runs.latest(session)
        receipt = next((event for event in operators.listing(session, NEWEST) if "receipt" in event.detail), None)
        return Overview(
            system_revision=schema.system_revision(session),
            accounts=accounts.count_by_status(session),
            revisions=accounts.count_by_revision(session),
            servers=[(server.name, count, server.draining) for server, count in servers.listing(session)],
            workers=_workers(operator),
            last_canary=_last_canary(operator),
            last_revocation=None if receipt is None else _receipt(receipt),
            intents=session.scalar(select(func.count()).select_from(RevocationIntent)) or 0,
            migration_run=None if run is None or run.state is RunState.DONE else str(run.state),
        )


def _workers(operator: Operator) -> Sequence[Member] | None:
    try:
        return operator.services.revocation.workers()
    except RedisError:
        return None


def _last_canary(operator: Operator) -> Mapping[str, Any] | None:
    """The last round that the canary recorded in its own account."""
    try:
        with operator.sessions.reading(CANARY_ACCOUNT) as session:
            rounds = audit.listing(session, 1, None, CANARY_ROUND).rows
    except (TenancyError, VerifierUnavailable):
        return None
    return {"at": _text(rounds[0].created_at), **rounds[0].detail} if rounds else None


def _receipt(event: OperatorEvent) -> dict[str, Any]:
    return {"action": event.action, "at": _text(event.at), **event.detail["receipt"]}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
