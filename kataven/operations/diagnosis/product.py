"""Checks the product's own state: workers, revocation intents, the journal, migration runs, peppers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy import func, select

from kataven.identity.errors import VerifierUnavailable
from kataven.operations import migration_runs, peppers_in_use
from kataven.operations.diagnosis.findings import CheckResult, failed, ok, warning
from kataven.operations.operator import Operator
from kataven.revocation.coordination import Member
from kataven.system import accounts, operators
from kataven.system.models import AccountStatus, JournalledKey, OperatorEvent, RevocationIntent, RunState

OVERDUE_SECONDS = 10
UNFINISHED = (AccountStatus.PROVISIONING, AccountStatus.FAILED, AccountStatus.DELETING)
MAX_PEPPER_AGE = timedelta(days=2 * 365)
MAX_ACCOUNTS = 200
"""Peppers are counted in each account's database, so by default only in installations of this size."""


def workers_of(operator: Operator) -> list[Member] | None:
    """The listed workers; None without Redis."""
    try:
        return operator.services.revocation.workers()
    except RedisError:
        return None


def check_workers(members: Sequence[Member] | None) -> Iterator[CheckResult]:
    """Which workers hold a lease, and which do not renew it. Workers don't report their release."""
    if members is None:
        yield failed("workers", "unknown: Redis is unavailable", "Restore Redis: see the checks of Redis.")
        return
    if not members:
        yield warning("workers", "no worker is listed", "Start the API: python -m kataven.serve api")
        return
    late = [member for member in members if member.confirmed_seconds_ago > 2 * member.lease_seconds]
    hosts = len({member.host for member in members})
    found = f"{len(members)} on {hosts} {'host' if hosts == 1 else 'hosts'}"
    if late:
        listed = ", ".join(f"{one.host} pid {one.pid} ({one.confirmed_seconds_ago:.0f} s)" for one in late[:5])
        yield warning(
            "workers",
            f"{found}; {len(late)} did not renew their lease: {listed}",
            "A host that is paused, swaps or is cut off. A worker that has ended is removed by the next revocation.",
        )
    else:
        yield ok("workers", f"{found}, all renew their leases")
    leases = sorted({member.lease_seconds for member in members})
    if len(leases) > 1:
        listed = ", ".join(f"{lease:g} s" for lease in leases)
        yield warning("worker settings", f"leases of {listed}", "Set the same KATAVEN_LEASE_SECONDS on all hosts.")


def check_pending(operator: Operator, journal_days: int) -> Iterator[CheckResult]:
    """Revocations without a receipt, the journal, and interrupted work."""
    age = func.clock_timestamp() - RevocationIntent.begun_at
    try:
        with operator.system.reading() as session:
            intents, oldest = session.execute(select(func.count(), func.max(age)).select_from(RevocationIntent)).one()
            journalled, first = session.execute(select(func.count(), func.min(JournalledKey.revoked_at))).one()
            statuses = accounts.count_by_status(session)
            run = migration_runs.latest(session)
    except VerifierUnavailable:
        return  # `check_system` reports it
    if intents and oldest.total_seconds() > OVERDUE_SECONDS:
        yield warning(
            "revocation intents",
            f"{intents} without a receipt, the oldest {oldest.total_seconds():.0f} s old",
            "A revoking process died. Workers evict what the intents cover. For a receipt: kataven revocation flush",
        )
    else:
        yield ok("revocation intents", f"{intents} in progress")
    since = "" if first is None else f", the oldest of {first.astimezone(UTC):%Y-%m-%d}"
    noun = "key" if journalled == 1 else "keys"
    yield ok("revocation journal", f"{journalled} {noun}{since}, kept for {journal_days} days")
    left = [f"{statuses[status]} accounts {status}" for status in UNFINISHED if statuses.get(status)]
    if run is not None and run.state is RunState.STOPPED:
        left.append("an interrupted migration run")
    if left:
        fix = "Run: kataven accounts repair. For migrations, run the upgrade again."
        yield warning("unfinished work", ", ".join(left), fix)
    else:
        yield ok("unfinished work", "none")


def check_peppers(operator: Operator, *, every_account: bool) -> Iterator[CheckResult]:
    """The peppers of the ring: in use, out of use, and missing."""
    try:
        ring = operator.services.issuer.pepper_ids()
    except VerifierUnavailable as error:
        yield failed("peppers", str(error), "Check KATAVEN_AUTH_SERVICE and the auth-service.")
        return
    try:
        with operator.system.reading() as session:
            total = sum(accounts.count_by_status(session).values())
            events = operators.listing(session, 1, action="pepper.retired")
        last = f"; the last one was retired on {_day(events)}" if events else ""
        if total > MAX_ACCOUNTS and not every_account:
            yield ok("peppers", f"{', '.join(ring)}{last}; not counted in {total} accounts without --all-accounts")
            return
        use = peppers_in_use.count(operator)
    except VerifierUnavailable:
        return
    used = use.total()
    yield ok("peppers", f"current {ring[0]}, " + ", ".join(f"{name} ({used[name]} keys)" for name in ring) + last)
    since = use.current_since(ring[1:])
    if since is not None and datetime.now(UTC) - since > MAX_PEPPER_AGE:
        found = f"in use since {since:%Y-%m-%d} or earlier"
        yield warning(f"pepper {ring[0]}", found, "Rotate it: see docs/running.md")
    missing = sorted(set(used) - set(ring))
    for name in missing:
        yield failed(
            f"pepper {name}",
            f"not in the ring, and {used[name]} usable keys are stored under it: they are refused",
            "Put it back into KATAVEN_PEPPERS, or revoke these keys: kataven peppers status --by-account",
        )
    for name in ring[1:]:
        if used[name] or use.unreachable:
            continue
        yield warning(f"pepper {name}", "no usable key is stored under it", f"Run: kataven peppers retire {name}")


def _day(events: Sequence[OperatorEvent]) -> str:
    at: datetime = events[0].at
    return f"{at.astimezone(UTC):%Y-%m-%d}"
