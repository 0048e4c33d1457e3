"""Look up accounts, the location of their databases, and the cutoffs of users. Each worker caches the results for up to
30 s."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.exc import ProgrammingError

from kataven.identity.people import UNRESTRICTED, Presented, Restrictions, is_after
from kataven.identity.verifier import AccountFacts as KnownAccount
from kataven.ratelimit.policy import Limits
from kataven.revocation.cache import GuardedCache
from kataven.revocation.guard import Guard
from kataven.revocation.target import ANY_KEY, ANY_SUBJECT, RevocationTarget, RevokedKey, secrets_of
from kataven.system import cutoffs, journal
from kataven.system.addresses import DIRECT_URL, address_of
from kataven.system.database import SystemDatabase
from kataven.system.limit_raises import COLUMNS as RAISED_LIMITS_COLUMNS
from kataven.system.limit_raises import RaisedLimits, raised_of
from kataven.system.limits import COLUMNS as LIMIT_COLUMNS
from kataven.system.limits import limits_of
from kataven.system.models import Account, AccountRateLimits, AccountStatus, RegisteredServer
from kataven.system.rotation_policy import ROTATE_AFTER_DAYS
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import is_about_schema
from kataven.tenancy.prepared_statements import PREPARED
from kataven.tenancy.serving.rows import RowQuery

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
    base_limits: Limits
    """The account's own limits, without a raise."""
    tenant: Tenant
    rotate_after_days: int | None = None
    """After how many days a secret of an API key is due for rotation; None: never."""
    revoked_keys: journal.Generations | None = None
    """The account's journalled keys; None if they are too many, or were not read: each key must be looked up."""
    cutoff_mark: float = cutoffs.NO_MARK
    """The latest cutoff of any user in this account, in Unix seconds; infinity if a user is blocked. A token that is
    issued later needs no look-up."""
    raised: RaisedLimits | None = None
    """A temporary raise of the limits."""
    version: bytes = b""
    """See AccountFacts. Empty in records that `Directory` did not read."""

    @property
    def limits(self) -> Limits:
        """The limits that apply now. A raise ends here, in every worker at the same time, also in cached records."""
        raised = self.raised
        return self.base_limits if raised is None or monotonic() >= raised.until else raised.limits

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
            *RAISED_LIMITS_COLUMNS,
        )
        .join(RegisteredServer, Account.server == RegisteredServer.name)
        .join(AccountRateLimits, AccountRateLimits.account_id == Account.account_id, isouter=True)
    )


# Built once: building it takes half as long as executing it.
_OF_ACCOUNT = record_query().where(Account.account_id == bindparam("account")).prefix_with(PREPARED)
_AND_JOURNAL = _OF_ACCOUNT.add_columns(journal.listed().label("revoked_keys"))
_AND_CUTOFFS = _AND_JOURNAL.add_columns(*cutoffs.account_mark())
_RECORD = RowQuery(_OF_ACCOUNT)
_RECORD_WITH_JOURNAL = RowQuery(_AND_JOURNAL)
_RECORD_WITH_CUTOFFS = RowQuery(_AND_CUTOFFS)
_RECORD_AND_PERSON = RowQuery(_AND_CUTOFFS.add_columns(*cutoffs.of_person()))

JOURNAL_RETRY_SECONDS = 60.0
"""How often to check whether a system database without a journal has been migrated."""


def record_of(
    database: SystemDatabase,
    row: Any,
    revoked_keys: journal.Generations | None = None,
    cutoff_mark: float = cutoffs.NO_MARK,
    version: bytes = b"",
) -> AccountRecord:
    """Convert a row of `record_query`."""
    base_limits = limits_of(row)
    return AccountRecord(
        account=row.account_id,
        name=row.account_name,
        status=AccountStatus(row.status),
        zitadel_org_id=row.zitadel_org_id,
        max_key_expiry_days=row.max_key_expiry_days,
        base_limits=base_limits,
        tenant=address_of(database, row.url, row.direct_url).tenant(
            row.account_id, row.database_name, row.schema_revision
        ),
        rotate_after_days=row.rotate_after_days,
        revoked_keys=revoked_keys,
        cutoff_mark=cutoff_mark,
        raised=raised_of(row, base_limits, monotonic),
        version=version,
    )


def _version(row: Any, listed: journal.Generations | None) -> bytes:
    """A digest of the columns from which the facts for the verification of a key are derived."""
    journalled = None if listed is None else sorted(listed.items())
    columns = (
        row.account_id,
        row.status,
        row.zitadel_org_id,
        row.url,
        row.direct_url,
        row.database_name,
        row.schema_revision,
        journalled,
    )
    return hashlib.blake2b(repr(columns).encode(), digest_size=16).digest()


def _listed_keys(row: Any) -> journal.Generations | None:
    """The journalled keys in a row of `_RECORD` or `_RECORD_WITH_JOURNAL`; None if they are too many."""
    found: journal.Generations = getattr(row, "revoked_keys", None) or journal.EMPTY
    return found if len(found) <= journal.MAX_LISTED else None


@dataclass(slots=True)
class PersonRead:
    """What a statement reads about a user in addition to the account's record, if the record is not cached."""

    subject: str
    restrictions: Restrictions | None = None
    everywhere: float | None = None
    """The latest cutoff of any user in all accounts."""


_EVERYWHERE = RevocationTarget(None, ANY_KEY, ANY_SUBJECT)


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
        # Filled through `_remembered`, so it is created after it.
        self._everywhere: GuardedCache[str, float | None] = GuardedCache(guard, ttl_seconds=TTL_SECONDS, capacity=1)

    def find(self, account: str) -> AccountRecord | None:
        """The account, possibly from the cache; None if it is unknown. Raises SystemDatabaseUnavailable."""
        return self._find(account, None)

    def restrictions(self, account: str | None, presented: Presented) -> Restrictions:
        """What concerns the user of a browser session in an account, or in all accounts. Raises
        SystemDatabaseUnavailable."""
        if account is not None:
            record, found = self._find_for(account, presented)
            if record is not None:
                return found
        everywhere = self._everywhere.get("", _EVERYWHERE, lambda: self._read_person(cutoffs.EVERYWHERE, presented)[1])
        if everywhere is not None and is_after(presented.oldest, everywhere):
            return UNRESTRICTED
        return self._read_person(cutoffs.EVERYWHERE, presented)[0]

    def _find(self, account: str, person: PersonRead | None) -> AccountRecord | None:
        # Every revocation of a key, and every cutoff and block in the account, evicts the record: it contains the
        # account's journalled keys and its latest cutoff.
        target = RevocationTarget(account, ANY_KEY, ANY_SUBJECT)
        return self._remembered.get(account, target, lambda: self._read_unless_unknown(account, person))

    def _find_for(self, account: str, presented: Presented) -> tuple[AccountRecord | None, Restrictions]:
        """The account, and the restrictions of the user: one statement if the record is not cached, none if the record
        and the latest cutoffs are cached and the token is newer, and one for an older token."""
        person = PersonRead(presented.person)
        record: AccountRecord | None = None
        looked_up = False

        def read_everywhere() -> float | None:
            nonlocal record, looked_up
            record, looked_up = self._find(account, person), True
            if record is None or person.everywhere is not None:
                return person.everywhere
            person.restrictions, everywhere = self._read_person(account, presented)
            return everywhere

        everywhere = self._everywhere.get("", _EVERYWHERE, read_everywhere)
        if not looked_up:
            record = self._find(account, person)
        if record is None or everywhere is None:
            return None, UNRESTRICTED
        if person.restrictions is None:
            if is_after(presented.oldest, record.cutoff_mark) and is_after(presented.oldest, everywhere):
                return record, UNRESTRICTED
            person.restrictions = self._read_person(account, presented)[0]
        return record, person.restrictions

    def _read_person(self, account: str, presented: Presented) -> tuple[Restrictions, float]:
        with self.database.reading() as session:
            try:
                return cutoffs.read(session, account, presented.person)
            except ProgrammingError as error:
                if not is_about_schema(error):
                    raise
                return UNRESTRICTED, cutoffs.NO_MARK  # before `system_0009` no cutoff can exist

    def _read_unless_unknown(self, account: str, person: PersonRead | None) -> AccountRecord | None:
        found: AccountRecord | None = None

        def is_unknown() -> bool | None:
            nonlocal found
            found = self.read(account, person)
            return True if found is None else None  # None is not cached here: `_remembered` caches the account

        self._unknown.get(account, RevocationTarget(account), is_unknown)
        return found

    def read(self, account: str, person: PersonRead | None = None) -> AccountRecord | None:
        """The account, read from the database; None if it is unknown. Raises SystemDatabaseUnavailable.

        `person` receives what the same statement read about a user.
        """
        row = self._read_row(account, person)
        if row is None or row.status not in KNOWN_TO_CALLERS:
            return None
        mark = cutoffs.mark_of(row) if hasattr(row, "has_blocks") else cutoffs.NO_MARK
        listed = _listed_keys(row)
        return record_of(self.database, row, listed, mark, _version(row, listed))

    def _read_row(self, account: str, person: PersonRead | None) -> Any | None:
        try:
            # Tried every time, unlike the journal: a worker that assumes that no cutoffs exist must not continue to do
            # so after the system database was migrated and the first cutoff was written.
            if person is None:
                return self._first(_RECORD_WITH_CUTOFFS, account=account)
            row = self._first(_RECORD_AND_PERSON, account=account, subject=person.subject)
            if row is not None:
                person.restrictions, person.everywhere = cutoffs.restrictions_of(row), cutoffs.everywhere_of(row)
            return row
        except ProgrammingError as error:
            if not is_about_schema(error):
                raise  # otherwise not migrated to `system_0009` yet
        return self._read_row_of_earlier_schema(account)

    def _read_row_of_earlier_schema(self, account: str) -> Any | None:
        if self._clock() >= self._no_journal_until:
            try:
                return self._first(_RECORD_WITH_JOURNAL, account=account)
            except ProgrammingError as error:
                if not is_about_schema(error):
                    raise
                self._no_journal_until = self._clock() + JOURNAL_RETRY_SECONDS  # not migrated to `system_0007` yet
        return self._first(_RECORD, account=account)

    def _first(self, query: RowQuery, **values: str) -> Any | None:
        return query.first(self.database.rows(query, values))

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

    def account(self, name: str, presented: Presented | None = None) -> KnownAccount | None:
        """`find`, in the form that the identity package needs, with the restrictions of the user of a token."""
        restrictions = UNRESTRICTED
        if presented is None:
            record = self.find(name)
        else:
            record, restrictions = self._find_for(name, presented)
        if record is None:
            return None
        return KnownAccount(
            record.account,
            record.open,
            record.zitadel_org_id,
            record.tenant,
            record.revoked_keys,
            restrictions,
            record.version,
        )

    def version(self, name: str) -> bytes | None:
        """The version of the facts that `account` returns for the verification of a key. None if it returns None."""
        record = self.find(name)
        return None if record is None else record.version
