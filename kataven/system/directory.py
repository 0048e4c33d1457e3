"""Which accounts there are and where: read from the system database, remembered for a moment by each worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, bindparam, make_url, select
from sqlalchemy.engine import URL

from kataven.identity.verifier import AccountFacts as KnownAccount
from kataven.ratelimit.policy import Limits
from kataven.revocation.cache import GuardedCache
from kataven.revocation.guard import Guard
from kataven.revocation.target import RevocationTarget
from kataven.system.database import SystemDatabase
from kataven.system.limits import limits_of
from kataven.system.models import Account, AccountRateLimits, AccountStatus, RegisteredServer
from kataven.tenancy.directory import DRIVER, Tenant

KNOWN_TO_CALLERS = frozenset({AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED})
"""Statuses of accounts that exist for their callers; one that is being made or deleted, or failed, does not."""

TTL_SECONDS = 30.0
CAPACITY = 10_000
UNKNOWN_TTL_SECONDS = 5.0
UNKNOWN_CAPACITY = 1_000
"""Invented names are remembered apart, so that they can't push out accounts that there are."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What a request needs to know of its account."""

    account: str
    name: str
    status: AccountStatus
    zitadel_org_id: str | None
    max_key_expiry_days: int | None
    limits: Limits
    tenant: Tenant

    @property
    def open(self) -> bool:
        return self.status is AccountStatus.ACTIVE


def record_query() -> Select[*tuple[Any, ...]]:
    """Of accounts, what `record_of` wants to know: columns, and no entities, which would cost as much again."""
    return (
        select(
            Account.account_id,
            Account.account_name,
            Account.status,
            Account.zitadel_org_id,
            Account.max_key_expiry_days,
            Account.database_name,
            Account.schema_revision,
            AccountRateLimits.per_minute,
            AccountRateLimits.per_hour,
            AccountRateLimits.per_day,
            AccountRateLimits.concurrent,
            RegisteredServer.url,
        )
        .join(RegisteredServer, Account.server == RegisteredServer.name)
        .join(AccountRateLimits, AccountRateLimits.account_id == Account.account_id, isouter=True)
    )


# Put together once: that costs as much as half of its execution.
_RECORD = record_query().where(Account.account_id == bindparam("account"))


def tenant_url(system_url: URL, server_url: str | None, database_name: str) -> URL:
    """Where an account's database is. A server without a URL of its own is the one that holds the system database."""
    server = system_url if server_url is None else make_url(server_url)
    return server.set(drivername=DRIVER, database=database_name)


def record_of(system_url: URL, row: Row[*tuple[Any, ...]]) -> AccountRecord:
    """A row of `record_query` as the requests see it."""
    return AccountRecord(
        account=row.account_id,
        name=row.account_name,
        status=AccountStatus(row.status),
        zitadel_org_id=row.zitadel_org_id,
        max_key_expiry_days=row.max_key_expiry_days,
        limits=Limits() if row.per_minute is None else limits_of(row),
        tenant=Tenant(row.account_id, tenant_url(system_url, row.url, row.database_name), revision=row.schema_revision),
    )


class Directory:
    """Finds accounts by name. What it remembers stands behind the revocation guard, like all that a verifier reads."""

    def __init__(self, database: SystemDatabase, guard: Guard) -> None:
        self.database = database
        # Whoever makes an account sends an event, so that a name is unknown no longer once that has answered.
        self._unknown: GuardedCache[str, bool | None] = GuardedCache(
            guard, ttl_seconds=UNKNOWN_TTL_SECONDS, capacity=UNKNOWN_CAPACITY
        )
        self._remembered: GuardedCache[str, AccountRecord | None] = GuardedCache(
            guard, ttl_seconds=TTL_SECONDS, capacity=CAPACITY
        )

    def find(self, account: str) -> AccountRecord | None:
        """The account as it was a moment ago; None if callers know of none. Raises SystemDatabaseUnavailable."""
        return self._remembered.get(account, RevocationTarget(account), lambda: self._read_unless_unknown(account))

    def _read_unless_unknown(self, account: str) -> AccountRecord | None:
        found: AccountRecord | None = None

        def is_unknown() -> bool | None:
            nonlocal found
            found = self.read(account)
            return True if found is None else None  # None is not remembered: the other memory has the account

        self._unknown.get(account, RevocationTarget(account), is_unknown)
        return found

    def read(self, account: str) -> AccountRecord | None:
        """The account as it is now. Raises SystemDatabaseUnavailable."""
        with self.database.reading() as session:
            row = session.connection().execute(_RECORD, {"account": account}).first()  # columns need no ORM
        if row is None or row.status not in KNOWN_TO_CALLERS:
            return None
        return record_of(self.database.url, row)

    def account(self, name: str) -> KnownAccount | None:
        """The same, as identity asks for it."""
        record = self.find(name)
        if record is None:
            return None
        return KnownAccount(record.account, record.open, record.zitadel_org_id, record.tenant)
