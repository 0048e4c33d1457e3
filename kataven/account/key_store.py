"""The key store of `kataven.identity`, which reads API keys from each account's database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import column, text, update
from sqlalchemy.orm import Session

from kataven.account import rotation
from kataven.account.api_keys import KeyRules
from kataven.account.key_status import moment_in
from kataven.account.models import ApiKey, FormerSecret
from kataven.identity.conditions import AddressRules
from kataven.identity.errors import AccountOutOfStep, VerifierUnavailable
from kataven.identity.peppers import KeyHash
from kataven.identity.verifier import AccountFacts, StoredKey
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import SchemaMismatch, TenancyError, TenantUnavailable
from kataven.tenancy.prepared_statements import PREPARED
from kataven.tenancy.serving.rows import RowQuery, Rows

ReadRowsAt = Callable[[AccountFacts, RowQuery, Mapping[str, Any]], Rows]
"""Reads the rows of a query from an account's database. Raises TenancyError."""

OpenSession = Callable[[AccountFacts], AbstractContextManager[Session]]
"""Opens a session on an account's database. Raises TenancyError."""

JournalledSecret = Callable[[str, Mapping[str, int | None] | None, str, int], tuple[bool, bool]]
"""Whether a key and its secret of a generation are in the revocation journal, given what was read with the account."""

MIGRATION_SECONDS = 60
"""`Retry-After` for an account whose database is being migrated."""

_NAMES = ("id", "name", "expires_at", "disabled_at", "limits", "columns")
_FOUND = ("key_hash", "pepper_id", "former_id", "generation", "ends_at", "completes")

# The row as JSON has the columns of any revision: a database before `account_0003` has no rules.
_COLUMNS = """k.id::text, k.name, k.expires_at, k.disabled_at, k.limits, to_jsonb(k) - 'key_hash' AS columns"""


def _query(statement: str, *more: str) -> RowQuery:
    return RowQuery(text(statement).columns(*map(column, (*_NAMES, *_FOUND, *more))))


# One statement and one round trip, with an index lookup in each table. It is prepared because planning costs PostgreSQL
# more than executing it. `completes` is the former secret whose grace period starts with the first use of the current
# one.
_BY_HASH = _query(
    f"""
    {PREPARED}
    WITH found AS (
        SELECT id AS key_id, key_hash, pepper_id, NULL::uuid AS former_id, generation, NULL::timestamptz AS ends_at
        FROM api_keys WHERE key_hash = ANY(:digests)
        UNION ALL
        SELECT key_id, key_hash, pepper_id, id, generation, ends_at FROM former_secrets WHERE key_hash = ANY(:digests)
    )
    SELECT {_COLUMNS}, found.key_hash, found.pepper_id, found.former_id::text, found.generation, found.ends_at,
           CASE WHEN found.former_id IS NULL THEN (
               SELECT pending.id::text FROM former_secrets AS pending
               WHERE pending.key_id = k.id AND pending.ends_at IS NULL LIMIT 1
           ) END AS completes
    FROM found JOIN api_keys AS k ON k.id = found.key_id
    """  # noqa: S608  constants
)

# For an account that is before `account_0004` according to its record. The record may be outdated: if no key has the
# hash, the database reports whether it has former secrets by now.
_BY_HASH_BEFORE_ROTATION = _query(
    f"""
    SELECT {_COLUMNS}, k.key_hash, k.pepper_id, NULL AS former_id, 0 AS generation, NULL AS ends_at, NULL AS completes,
           asked.has_former_secrets
    FROM (SELECT to_regclass('former_secrets') IS NOT NULL AS has_former_secrets) AS asked
    LEFT JOIN api_keys AS k ON k.key_hash = ANY(:digests)
    """,  # noqa: S608  constants
    "has_former_secrets",
)


class SqlKeyStore:
    """Implements identity's KeyStore with the accounts' databases. A lookup is one indexed SELECT.

    `recording_usage` opens sessions in which each statement is a separate transaction. A key that is journalled as
    revoked is revoked, even if its database has lost that commit.
    """

    def __init__(self, rows: ReadRowsAt, recording_usage: OpenSession, journalled: JournalledSecret) -> None:
        self._rows = rows
        self._recording_usage = recording_usage
        self._journalled = journalled

    def find(self, account: AccountFacts, candidates: Sequence[KeyHash]) -> StoredKey | None:
        digests = [candidate.digest for candidate in candidates]
        with _reachable():
            row = self._row(account, digests)
        if row is None:
            return None
        key_id: str = row.id
        key_journalled, secret_journalled = self._journalled(account.name, account.revoked_keys, key_id, row.generation)
        return StoredKey(
            id=key_id,
            name=row.name,
            hash=KeyHash(row.pepper_id, bytes(row.key_hash)),
            expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
            revoked=row.disabled_at is not None or key_journalled,
            former_id=row.former_id,
            ends_at=None if row.ends_at is None else row.ends_at.timestamp(),
            ended=secret_journalled,
            completes_rotation=row.completes,
            limits=row.limits,
            **_rules(row.columns),
        )

    def _row(self, account: AccountFacts, digests: Sequence[bytes]) -> Any | None:
        given = {"digests": digests}
        if not _may_have_rotation(account):
            row = _BY_HASH_BEFORE_ROTATION.first(self._rows(account, _BY_HASH_BEFORE_ROTATION, given))
            if row is None or row.id is not None or not row.has_former_secrets:
                return None if row is None or row.id is None else row
        return _BY_HASH.first(self._rows(account, _BY_HASH, given))

    def rehash(self, account: AccountFacts, key_id: str, old: KeyHash, new: KeyHash) -> None:
        with _reachable(), self._recording_usage(account) as session:
            rehashed = session.execute(
                update(ApiKey)
                .where(ApiKey.id == UUID(key_id), ApiKey.key_hash == old.digest)
                .values(key_hash=new.digest, pepper_id=new.pepper_id)
                .returning(ApiKey.id)
            )
            if rehashed.first() is None and _may_have_rotation(account):
                session.execute(
                    update(FormerSecret)
                    .where(FormerSecret.key_id == UUID(key_id), FormerSecret.key_hash == old.digest)
                    .values(key_hash=new.digest, pepper_id=new.pepper_id)
                )


def _may_have_rotation(account: AccountFacts) -> bool:
    return not isinstance(account.location, Tenant) or rotation.has_rotation(account.location)


def _rules(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of StoredKey for the key's rules."""
    rules = KeyRules.of_columns(columns)
    return {
        "scopes": rules.scopes,
        "addresses": AddressRules.of(rules.allowed_addresses, rules.denied_addresses),
        "from_browsers": rules.from_browsers,
        "not_before": None if rules.not_before is None else rules.not_before.timestamp(),
        "paused": moment_in(columns, "paused_at") is not None,
    }


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except TenantUnavailable as error:
        raise VerifierUnavailable(retry_after_seconds=math.ceil(error.retry_after_seconds)) from error
    except SchemaMismatch as error:
        raise AccountOutOfStep(str(error), retry_after_seconds=MIGRATION_SECONDS) from error
    except TenancyError as error:
        raise VerifierUnavailable from error
