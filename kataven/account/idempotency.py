"""Idempotency keys: a repeated request that creates returns the first response.

    find      take the lock of the key, and read its row
    keep      write the row, in the transaction of the creation

Both are one statement. The row commits with what was created, so neither exists without the other. A request that fails
leaves no row, and can be repeated.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from kataven.account.errors import IdempotencyInProgress, IdempotencyMismatch, TooManyIdempotencyKeys
from kataven.identity.issuer import IssuedKey, Seed, framed

KEPT_HOURS = 24
SECRET_MINUTES = 10
"""How long the secret of a created key is returned again."""
MAX_PER_DAY = 20_000
"""How many idempotency keys an account can use within `KEPT_HOURS`."""
CLEANED_ROWS = 100
"""How many expired rows a creation deletes: more than it adds, so that the table shrinks."""
NONCE_BYTES = 32


class Raced(Exception):
    """Another request with the same key committed after `find`. Roll back and start again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request with an idempotency key."""

    id: bytes
    request_digest: bytes
    header: str = field(repr=False)
    """The value of `Idempotency-Key`. It is not stored, and a secret can't be derived without it."""
    nonce: bytes = field(repr=False, default_factory=lambda: secrets.token_bytes(NONCE_BYTES))

    @classmethod
    def of(cls, caller: str, operation: str, header: str, request: bytes) -> Attempt:
        """`request` is what must be equal in a repeated request: the path parameters and the body."""
        scope = framed(caller.encode(), operation.encode(), header.encode())
        return cls(hashlib.sha256(scope).digest(), hashlib.sha256(request).digest(), header)

    def seed(self, nonce: bytes | None = None, pepper_id: str = "") -> Seed:
        """From which the secret of the created key is derived."""
        return Seed(framed(self.id, self.nonce if nonce is None else nonce, self.header.encode()), pepper_id)

    def stored_seed(self, nonce: bytes | None = None, pepper_id: str = "") -> Seed:
        """The same for a key that can be shown again, so that its seed is stored: a digest, without the header."""
        return Seed(hashlib.sha256(self.seed(nonce).data).digest(), pepper_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """The first response to a request."""

    representation: str
    nonce: bytes | None = field(repr=False)
    """None if the response had no secret, or if it is not returned any more."""
    pepper_id: str | None
    key_hash: bytes | None


# PostgreSQL takes the lock once, before it reads the row. It does not wait: a client that repeats a request could
# otherwise hold every connection of the account.
_FIND = text(
    f"""
    WITH attempt AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:lock) AS locked)
    SELECT attempt.locked, kept.id IS NOT NULL AS found, kept.request_digest, kept.representation, kept.pepper_id,
           kept.key_hash,
           CASE WHEN kept.created_at > now() - interval '{SECRET_MINUTES} minutes' THEN kept.nonce END AS nonce,
           EXISTS (
               SELECT 1 FROM idempotency_keys WHERE created_at > now() - interval '{KEPT_HOURS} hours'
               ORDER BY created_at OFFSET :most LIMIT 1
           ) AS too_many
    FROM attempt LEFT JOIN idempotency_keys AS kept
      ON kept.id = :id AND kept.created_at > now() - interval '{KEPT_HOURS} hours'
    """  # noqa: S608  constants
)

# The row of an expired key with this id is replaced, so the deletion must not include it: the statement would change it
# twice.
_KEEP = text(
    f"""
    WITH expired AS (
        DELETE FROM idempotency_keys WHERE id IN (
            SELECT id FROM idempotency_keys WHERE created_at <= now() - interval '{KEPT_HOURS} hours' AND id <> :id
            ORDER BY created_at LIMIT {CLEANED_ROWS} FOR UPDATE SKIP LOCKED
        )
    ), forgotten AS (
        UPDATE idempotency_keys SET nonce = NULL WHERE id IN (
            SELECT id FROM idempotency_keys
            WHERE nonce IS NOT NULL AND id <> :id AND created_at <= now() - interval '{SECRET_MINUTES} minutes'
              AND created_at > now() - interval '{KEPT_HOURS} hours'
            ORDER BY created_at LIMIT {CLEANED_ROWS} FOR UPDATE SKIP LOCKED
        )
    )
    INSERT INTO idempotency_keys (id, request_digest, representation, nonce, pepper_id, key_hash)
    VALUES (:id, :request_digest, :representation, :nonce, :pepper_id, :key_hash)
    ON CONFLICT (id) DO UPDATE SET
        created_at = excluded.created_at, request_digest = excluded.request_digest,
        representation = excluded.representation, nonce = excluded.nonce, pepper_id = excluded.pepper_id,
        key_hash = excluded.key_hash
    WHERE idempotency_keys.created_at <= now() - interval '{KEPT_HOURS} hours'
    RETURNING id
    """  # noqa: S608  constants
)


def find(session: Session, attempt: Attempt) -> Kept | None:
    """The first response to this request; None if this is the first, which then must call `keep`.

    Raises IdempotencyMismatch, IdempotencyInProgress or TooManyIdempotencyKeys.
    """
    lock = int.from_bytes(attempt.id[:8], signed=True)
    row = session.execute(_FIND, {"lock": lock, "id": attempt.id, "most": MAX_PER_DAY - 1}).one()
    if row.found:
        if bytes(row.request_digest) != attempt.request_digest:
            raise IdempotencyMismatch
        return Kept(row.representation, _bytes(row.nonce), row.pepper_id, _bytes(row.key_hash))
    if not row.locked:
        raise IdempotencyInProgress
    if row.too_many:
        raise TooManyIdempotencyKeys(MAX_PER_DAY)
    return None


def keep(session: Session, attempt: Attempt, representation: str, issued: IssuedKey | None = None) -> None:
    """Store the response, without its secret, as the last statement of the transaction. Raises Raced."""
    values: dict[str, Any] = {
        "id": attempt.id,
        "request_digest": attempt.request_digest,
        "representation": representation,
        "nonce": None if issued is None else attempt.nonce,
        "pepper_id": None if issued is None else issued.hash.pepper_id,
        "key_hash": None if issued is None else issued.hash.digest,
    }
    session.flush()
    if session.execute(_KEEP, values).first() is None:
        raise Raced


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
