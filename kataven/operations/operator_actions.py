"""What operators do to accounts, from the command line or from the console: the same steps in the same order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from kataven.account import api_keys, restore_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey
from kataven.operations import account_creation, account_migrations
from kataven.operations.account_creation import NewAccount
from kataven.operations.account_migrations import Progress
from kataven.operations.account_status import OperatorContext, UsableKeys
from kataven.operations.revocation_measurement import Measurement
from kataven.ratelimit.policy import Limits
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.revocation.target import RevocationTarget
from kataven.system import limits, operators
from kataven.system.directory import AccountRecord
from kataven.system.errors import NoSuchAccount
from kataven.system.sessions import AccountSessions
from kataven.tenancy.migrations.report import AccountResult, MigrationReport
from kataven.web.services import Services

MEASURED = "revocation.measured"
MEASURE_ROUNDS = 20
MEASURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KeyWithLimits:
    """An API key as operators see it. `limits` has those of its own alone."""

    id: UUID
    name: str
    hint: str
    limits: Mapping[str, int]


def operator_context(services: Services, operator: str) -> OperatorContext:
    """Somebody who acts on accounts from outside them, with what reaches into an account's database for them."""
    sessions = AccountSessions(services.directory, services.registry)
    actor = Actor(f"operator:{operator}", operator)

    def cap_expiry(account: str, max_days: int) -> int:
        with sessions.writing(account) as session:
            return api_keys.cap_expiry(session, max_days, actor)

    def end_other_keys(connection: Connection, standing: UsableKeys) -> int:
        with Session(connection) as session:
            ended = restore_keys.revoke_other_keys(session, standing, actor)
            session.flush()
        return ended

    return OperatorContext(
        operator,
        services.directory.database,
        cap_expiry,
        services.revocation.revoke,
        _standing_keys,
        end_other_keys,
        services.limiter.reset,
    )


def create_account(services: Services, new: NewAccount, operator: str) -> None:
    """Make an account and its database, or neither. Raises what `lifecycle.create` does."""
    account_creation.create(services.directory.database, new, actor=operator)
    now_exists(services, new.account)


def now_exists(services: Services, account: str) -> None:
    """Have every worker forget that there was no such account, before whoever made it hears that it is made."""
    # The account is made either way; a worker that can't be told has it wrong for 5 s at most.
    with suppress(RevocationUnconfirmed):
        services.revocation.revoke(RevocationTarget(account))


def change_limits(
    services: Services,
    account: str,
    given: Mapping[str, int],
    operator: str,
    condition: Callable[[Limits], None] | None = None,
) -> Limits:
    """Set some limits and keep the others, if the condition holds; every worker learns of it within a second.

    Raises as `limits.change`.
    """
    with services.directory.database.writing() as session:
        changed = limits.change(session, account, given, condition)
        operators.record(session, operator, "account.limits_changed", account, given)
    services.revocation.announce(RevocationTarget(account))
    return changed


def key_limits(services: Services, account: str, key_id: UUID) -> KeyWithLimits:
    """A key of an account. Raises NoSuchAccount, NotFound or TenancyError."""
    _require(services, account)
    with AccountSessions(services.directory, services.registry).reading(account) as session:
        return _with_limits(api_keys.read(session, key_id))


def change_key_limits(
    services: Services, account: str, key_id: UUID, given: Mapping[str, int], operator: str, *, clear: bool = False
) -> KeyWithLimits:
    """Set some limits of one key and keep the others, or with `clear` drop them; workers learn of it within a second.

    The account's own audit trail tells of it, too. If this is cut off between the two databases, the same again
    completes it. Raises NoSuchAccount, NotFound, LimitAboveAccount, TenancyError, or ValueError for what can't be a
    limit.
    """
    record = _require(services, account)
    actor = Actor(f"operator:{operator}", operator)
    with AccountSessions(services.directory, services.registry).writing(account) as session:
        key, before = api_keys.change_limits(session, key_id, given, record.limits, actor, clear=clear)
        changed = _with_limits(key)
    detail = {"key_id": str(key_id), "hint": changed.hint, "from": before, "to": dict(changed.limits)}
    with services.directory.database.writing() as system:
        operators.record(system, operator, "account.key_limits_changed", account, detail)
    services.revocation.announce(RevocationTarget(account, str(key_id)))
    return changed


def migrate(
    services: Services, run_id: UUID, report_file: Path | None = None, progress: Progress = lambda _: None
) -> MigrationReport:
    """Carry out a run that was asked for; workers ask for the revision of each account anew. Raises as `carry_out`."""

    def told(result: AccountResult) -> None:
        services.revocation.announce(RevocationTarget(result.account))
        progress(result)

    return account_migrations.carry_out(services.directory.database, run_id, report_file=report_file, progress=told)


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


def _require(services: Services, account: str) -> AccountRecord:
    record = services.directory.read(account)
    if record is None:
        raise NoSuchAccount(account)
    return record


def _with_limits(key: ApiKey) -> KeyWithLimits:
    return KeyWithLimits(key.id, key.name, key.hint, dict(key.limits or {}))


def _standing_keys(connection: Connection) -> UsableKeys:
    with Session(connection) as session:
        return restore_keys.usable_keys(session)
