"""The key store of `kataven.identity`, which reads API keys from each account's database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from kataven.account.models import ApiKey
from kataven.identity.errors import AccountOutOfStep, VerifierUnavailable
from kataven.identity.peppers import KeyHash
from kataven.identity.verifier import AccountFacts, StoredKey
from kataven.tenancy.errors import SchemaMismatch, TenancyError, TenantUnavailable
from kataven.tenancy.prepared_statements import PREPARED

OpenSession = Callable[[AccountFacts], AbstractContextManager[Session]]
"""Opens a session on an account's database. Raises TenancyError."""

IsJournalled = Callable[[str, Mapping[str, int | None] | None, str], bool]
"""Whether a key of an account is in the revocation journal, given what was read with the account."""

MIGRATION_SECONDS = 60
"""`Retry-After` for an account whose database is being migrated."""

_BY_HASH = (
    select(
        ApiKey.id, ApiKey.name, ApiKey.key_hash, ApiKey.pepper_id, ApiKey.expires_at, ApiKey.disabled_at, ApiKey.limits
    )
    .where(ApiKey.key_hash.in_(bindparam("digests", expanding=True)))
    .prefix_with(PREPARED)
)


class SqlKeyStore:
    """Implements identity's KeyStore with the accounts' databases. A lookup is one indexed SELECT.

    `recording_usage` opens sessions in which each statement is a separate transaction. A key that is journalled as
    revoked is revoked, even if its database has lost that commit.
    """

    def __init__(self, reading: OpenSession, recording_usage: OpenSession, is_journalled: IsJournalled) -> None:
        self._reading = reading
        self._recording_usage = recording_usage
        self._is_journalled = is_journalled

    def find(self, account: AccountFacts, candidates: Sequence[KeyHash]) -> StoredKey | None:
        digests = [candidate.digest for candidate in candidates]
        with _reachable(), self._reading(account) as session:
            # The statement selects columns, so the ORM is not needed.
            row = session.connection().execute(_BY_HASH, {"digests": digests}).first()
        if row is None:
            return None
        key_id = str(row.id)
        revoked = row.disabled_at is not None
        return StoredKey(
            id=key_id,
            name=row.name,
            hash=KeyHash(row.pepper_id, bytes(row.key_hash)),
            expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
            revoked=revoked or self._is_journalled(account.name, account.revoked_keys, key_id),
            limits=row.limits,
        )

    def rehash(self, account: AccountFacts, key_id: str, old: KeyHash, new: KeyHash) -> None:
        with _reachable(), self._recording_usage(account) as session:
            session.execute(
                update(ApiKey)
                .where(ApiKey.id == UUID(key_id), ApiKey.key_hash == old.digest)
                .values(key_hash=new.digest, pepper_id=new.pepper_id)
            )


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
