"""Look up accounts and the location of their databases. Each worker caches the results for up to 30 s."""

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
from kataven.system.limits import COLUMNS as LIMIT_COLUMNS
from kataven.system.limits import limits_of
from kataven.system.models import Account, AccountRateLimits, AccountStatus, RegisteredServer
from kataven.tenancy.directory import DRIVER, Tenant

KNOWN_TO_CALLERS = frozenset({AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED})
"""Accounts with any other status are reported to callers as unknown."""

TTL_SECONDS = 30.0
CAPACITY = 10_000
UNKNOWN_TTL_SECONDS = 5.0
UNKNOWN_CAPACITY = 1_000
"""Unknown names have a separate cache, so that invented names can't evict existing accounts."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """The properties of an account that requests need."""

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
    """The columns that `record_of` needs. Loading ORM entities instead would take twice as long."""
    return (
        select(
            Account.account_id,
            Account.account_name,
            Account.status,
            Account.zitadel_org_id,
            Account.max_key_expiry_days,
            Account.database_name,
            Account.schema_revision,
            *(getattr(AccountRateLimits, column) for column in LIMIT_COLUMNS),
            RegisteredServer.url,
        )
        .join(RegisteredServer, Account.server == RegisteredServer.name)
        .join(AccountRateLimits, AccountRateLimits.account_id == Account.account_id, isouter=True)
    )


# Built once: building it takes half as long as executing it.
_RECORD = record_query().where(Account.account_id == bindparam("account"))


def tenant_url(system_url: URL, server_url: str | None, database_name: str) -> URL:
    """The URL of a database. `server_url` is None for the server that holds the system database."""
    server = system_url if server_url is None else make_url(server_url)
    return server.set(drivername=DRIVER, database=database_name)


def record_of(system_url: URL, row: Row[*tuple[Any, ...]]) -> AccountRecord:
    """Convert a row of `record_query`."""
    return AccountRecord(
        account=row.account_id,
        name=row.account_name,
        status=AccountStatus(row.status),
        zitadel_org_id=row.zitadel_org_id,
        max_key_expiry_days=row.max_key_expiry_days,
        limits=limits_of(row),
        tenant=Tenant(row.account_id, tenant_url(system_url, row.url, row.database_name), revision=row.schema_revision),
    )


class Directory:
    """Finds accounts by name. Its caches are invalidated by the revocation guard, like everything a verifier reads."""

    def __init__(self, database: SystemDatabase, guard: Guard) -> None:
        self.database = database
        # Creating an account publishes an event that invalidates its name here.
        self._unknown: GuardedCache[str, bool | None] = GuardedCache(
            guard, ttl_seconds=UNKNOWN_TTL_SECONDS, capacity=UNKNOWN_CAPACITY
        )
        self._remembered: GuardedCache[str, AccountRecord | None] = GuardedCache(
            guard, ttl_seconds=TTL_SECONDS, capacity=CAPACITY
        )

    def find(self, account: str) -> AccountRecord | None:
        """The account, possibly from the cache; None if it is unknown. Raises SystemDatabaseUnavailable."""
        return self._remembered.get(account, RevocationTarget(account), lambda: self._read_unless_unknown(account))

    def _read_unless_unknown(self, account: str) -> AccountRecord | None:
        found: AccountRecord | None = None

        def is_unknown() -> bool | None:
            nonlocal found
            found = self.read(account)
            return True if found is None else None  # None is not cached here: `_remembered` caches the account

        self._unknown.get(account, RevocationTarget(account), is_unknown)
        return found

    def read(self, account: str) -> AccountRecord | None:
        """The account, read from the database; None if it is unknown. Raises SystemDatabaseUnavailable."""
        with self.database.reading() as session:
            row = session.connection().execute(_RECORD, {"account": account}).first()  # columns need no ORM
        if row is None or row.status not in KNOWN_TO_CALLERS:
            return None
        return record_of(self.database.url, row)

    def account(self, name: str) -> KnownAccount | None:
        """`find`, in the form that the identity package needs."""
        record = self.find(name)
        if record is None:
            return None
        return KnownAccount(record.account, record.open, record.zitadel_org_id, record.tenant)
