"""Look up accounts and the location of their databases. Each worker caches the results for up to 30 s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select
from sqlalchemy.exc import ProgrammingError

from kataven.identity.verifier import AccountFacts as KnownAccount
from kataven.ratelimit.policy import Limits
from kataven.revocation.cache import GuardedCache
from kataven.revocation.guard import Guard
from kataven.revocation.target import ANY_KEY, RevocationTarget, RevokedKey, secrets_of
from kataven.system import journal
from kataven.system.addresses import DIRECT_URL, address_of
from kataven.system.database import SystemDatabase
from kataven.system.limits import COLUMNS as LIMIT_COLUMNS
from kataven.system.limits import limits_of
from kataven.system.models import Account, AccountRateLimits, AccountStatus, RegisteredServer
from kataven.system.rotation_policy import ROTATE_AFTER_DAYS
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import is_about_schema

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
    rotate_after_days: int | None = None
    """After how many days a secret of an API key is due for rotation; None: never."""
    revoked_keys: journal.Generations | None = None
    """The account's journalled keys; None if they are too many, or were not read: each key must be looked up."""

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
            DIRECT_URL,
            ROTATE_AFTER_DAYS,
        )
        .join(RegisteredServer, Account.server == RegisteredServer.name)
        .join(AccountRateLimits, AccountRateLimits.account_id == Account.account_id, isouter=True)
    )


# Built once: building it takes half as long as executing it.
_RECORD = record_query().where(Account.account_id == bindparam("account"))
_RECORD_WITH_JOURNAL = _RECORD.add_columns(journal.listed().label("revoked_keys"))

JOURNAL_RETRY_SECONDS = 60.0
"""How often to check whether a system database without a journal has been migrated."""


def record_of(
    database: SystemDatabase, row: Row[*tuple[Any, ...]], revoked_keys: journal.Generations | None = None
) -> AccountRecord:
    """Convert a row of `record_query`."""
    return AccountRecord(
        account=row.account_id,
        name=row.account_name,
        status=AccountStatus(row.status),
        zitadel_org_id=row.zitadel_org_id,
        max_key_expiry_days=row.max_key_expiry_days,
        limits=limits_of(row),
        tenant=address_of(database, row.url, row.direct_url).tenant(
            row.account_id, row.database_name, row.schema_revision
        ),
        rotate_after_days=row.rotate_after_days,
        revoked_keys=revoked_keys,
    )


def _listed_keys(row: Row[*tuple[Any, ...]]) -> journal.Generations | None:
    """The journalled keys in a row of `_RECORD` or `_RECORD_WITH_JOURNAL`; None if they are too many."""
    found: journal.Generations = row._mapping.get("revoked_keys") or journal.EMPTY
    return found if len(found) <= journal.MAX_LISTED else None


class Directory:
    """Finds accounts by name. Its caches are invalidated by the revocation guard, like everything a verifier reads."""

    def __init__(
        self,
        database: SystemDatabase,
        guard: Guard,
        *,
        is_recently_revoked: Callable[[RevokedKey], bool] = lambda _: False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.database = database
        self._is_recently_revoked = is_recently_revoked
        self._clock = clock
        self._no_journal_until = 0.0
        # Creating an account publishes an event that invalidates its name here.
        self._unknown: GuardedCache[str, bool | None] = GuardedCache(
            guard, ttl_seconds=UNKNOWN_TTL_SECONDS, capacity=UNKNOWN_CAPACITY
        )
        self._remembered: GuardedCache[str, AccountRecord | None] = GuardedCache(
            guard, ttl_seconds=TTL_SECONDS, capacity=CAPACITY
        )

    def find(self, account: str) -> AccountRecord | None:
        """The account, possibly from the cache; None if it is unknown. Raises SystemDatabaseUnavailable."""
        # Every key's revocation evicts the record, because the record contains the account's journalled keys.
        target = RevocationTarget(account, ANY_KEY)
        return self._remembered.get(account, target, lambda: self._read_unless_unknown(account))

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
            row = self._read_row(session.connection(), account)  # columns need no ORM
        if row is None or row.status not in KNOWN_TO_CALLERS:
            return None
        return record_of(self.database, row, _listed_keys(row))

    def _read_row(self, connection: Connection, account: str) -> Row[*tuple[Any, ...]] | None:
        if self._clock() >= self._no_journal_until:
            try:
                return connection.execute(_RECORD_WITH_JOURNAL, {"account": account}).first()
            except ProgrammingError as error:
                if not is_about_schema(error):
                    raise
                self._no_journal_until = self._clock() + JOURNAL_RETRY_SECONDS  # not migrated to `system_0007` yet
        return connection.execute(_RECORD, {"account": account}).first()

    def is_journalled(
        self, account: str, listed: journal.Generations | None, key_id: str, generation: int | None = None
    ) -> bool:
        """Whether the journal contains the key. `listed` is the record's `revoked_keys`, which saves the lookup.

        After a failover that may have lost the entry as well, Redis's record is read. Raises SystemDatabaseUnavailable,
        or VerifierUnavailable if that record can't be read.
        """
        if listed is None:
            with self.database.reading() as session:
                listed = journal.of_key(session, account, key_id)
        return journal.covers(listed, key_id, generation) or self._is_recently_revoked(
            RevokedKey(account, key_id, generation)
        )

    def journalled_secret(
        self, account: str, listed: journal.Generations | None, key_id: str, generation: int
    ) -> tuple[bool, bool]:
        """Whether the journal contains an API key, and whether it contains the key's secret of this generation.

        Raises the same errors.
        """
        secrets = secrets_of(key_id)
        if listed is None:
            with self.database.reading() as session:
                listed = journal.of_key(session, account, key_id, secrets)
        return (
            self.is_journalled(account, listed, key_id),
            self.is_journalled(account, listed, secrets, generation),
        )

    def account(self, name: str) -> KnownAccount | None:
        """`find`, in the form that the identity package needs."""
        record = self.find(name)
        if record is None:
            return None
        return KnownAccount(record.account, record.open, record.zitadel_org_id, record.tenant, record.revoked_keys)
