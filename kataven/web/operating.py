"""What operators do to accounts, from the command line or from the console: the same steps in the same order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from kataven.account import api_keys, revival
from kataven.account.audit import Actor
from kataven.ratelimit.policy import Limits
from kataven.revocation.receipt import NobodyTold
from kataven.revocation.scope import Scope
from kataven.system import lifecycle, limits, migrations, operators
from kataven.system.closing import Office, StandingKeys
from kataven.system.lifecycle import NewAccount
from kataven.system.migrations import Progress
from kataven.system.sessions import AccountSessions
from kataven.tenancy.report import AccountResult, Report
from kataven.web.measuring import Measurement
from kataven.web.services import Services

MEASURED = "revocation.measured"
MEASURE_ROUNDS = 20
MEASURE_SECONDS = 5.0


def office(services: Services, operator: str) -> Office:
    """Somebody who acts on accounts from outside them, with what reaches into an account's database for them."""
    sessions = AccountSessions(services.directory, services.registry)
    actor = Actor(f"operator:{operator}", operator)

    def cap_expiry(account: str, max_days: int) -> int:
        with sessions.writing(account) as session:
            return api_keys.cap_expiry(session, max_days, actor)

    def end_other_keys(connection: Connection, standing: StandingKeys) -> int:
        with Session(connection) as session:
            ended = revival.end_other_keys(session, standing, actor)
            session.flush()
        return ended

    return Office(
        operator,
        services.directory.database,
        cap_expiry,
        services.revocation.revoke,
        _standing_keys,
        end_other_keys,
        services.limiter.forget,
    )


def create_account(services: Services, new: NewAccount, operator: str) -> None:
    """Make an account and its database, or neither. Raises what `lifecycle.create` does."""
    lifecycle.create(services.directory.database, new, actor=operator)
    now_exists(services, new.account)


def now_exists(services: Services, account: str) -> None:
    """Have every worker forget that there was no such account, before whoever made it hears that it is made."""
    # The account is made either way; a worker that can't be told has it wrong for 5 s at most.
    with suppress(NobodyTold):
        services.revocation.revoke(Scope(account))


def change_limits(services: Services, account: str, given: Mapping[str, int], operator: str) -> Limits:
    """Set some limits and keep the others; every worker learns of it within a second.

    Raises NoSuchAccount, ContradictoryLimits, or ValueError for what can't be a limit.
    """
    with services.directory.database.writing() as session:
        changed = limits.change(session, account, given)
        operators.record(session, operator, "account.limits_changed", account, given)
    services.revocation.announce(Scope(account))
    return changed


def migrate(
    services: Services, run_id: UUID, report_file: Path | None = None, progress: Progress = lambda _: None
) -> Report:
    """Carry out a run that was asked for; workers ask for the revision of each account anew. Raises as `carry_out`."""

    def told(result: AccountResult) -> None:
        services.revocation.announce(Scope(result.account))
        progress(result)

    return migrations.carry_out(services.directory.database, run_id, report_file=report_file, progress=told)


def measure_revocation(services: Services, api_url: str, operator: str) -> dict[str, Any]:
    """What `flask revocation measure` does, with few keys and in a few seconds; the result, which is in the trail too.

    Raises MeasurementFailed, and what revoking raises.
    """
    deadline = time.monotonic() + MEASURE_SECONDS
    with Measurement.begin(services, api_url, operator) as measurement:
        measurement.deadline = deadline
        for _ in range(MEASURE_ROUNDS):
            measurement.round()
            if time.monotonic() > deadline:
                break
    found = {"rows": measurement.rows(), "accepted": measurement.accepted}
    with services.directory.database.writing() as session:
        operators.record(session, operator, MEASURED, detail=found)
    return found


def _standing_keys(connection: Connection) -> StandingKeys:
    with Session(connection) as session:
        return revival.standing_keys(session)
