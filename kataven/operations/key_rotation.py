"""Rotate the API keys of an account, and end their former secrets, as an operator.

Both audit logs record each change. Neither contains a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from kataven.account import key_revocation, rotation
from kataven.identity.token import TokenKind
from kataven.operations.keys import ChangedKey, KeyDetails, details_of, record_change
from kataven.operations.operator import Operator
from kataven.revocation.receipt import Receipt

ROTATED, FORMER_SECRET_ENDED = "key.rotated", "key.former_secret_ended"
"""The actions in the operator audit log."""


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """A key with its new secret, which is not stored."""

    key: KeyDetails
    former_hint: str
    """The last characters of the secret before it."""
    receipt: Receipt | None
    """Set if a new secret that had not been used was replaced: no worker accepts it."""
    is_logged: bool
    """False if the operator audit log was unavailable. The account's own audit log has the event."""
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FormerSecretDetails:
    """A secret that was replaced."""

    hint: str
    rotated_at: datetime
    ends_at: datetime | None
    """None until the new secret is used."""
    late_uses: int
    last_late_use_at: datetime | None
    last_late_address: str | None


def rotate(operator: Operator, account: str, key_id: UUID, grace_seconds: int) -> RotatedKey:
    """Give a key a new secret. The current one is accepted until the new one is used, and for `grace_seconds` more.

    Raises NoSuchAccount, NotFound, Conflict (see `kataven.account.rotation`), TenancyError, VerifierUnavailable, or
    RevocationUnconfirmed if an unused secret was replaced and no receipt could be obtained.
    """
    record = operator.read_account(account)
    issued = operator.services.issuer.issue(TokenKind.API_KEY, account)  # may call the auth-service: before the lock
    revocation, intent = operator.services.revocation, None
    with operator.sessions.writing(account) as session:
        rotated = rotation.rotate(session, key_id, issued, grace_seconds, operator.actor)
        former_hint = rotation.former_secrets(session, [key_id])[key_id][0].hint
        details = details_of(rotated.key, record.rotate_after_days)
        if rotated.replaced:
            intent = key_revocation.write_intent(revocation, account, str(key_id), revoked=False)
    receipt = None
    if intent is not None:
        writing = operator.sessions.writing
        receipt = key_revocation.complete(revocation, intent, rotated.event_id, lambda: writing(account))
    is_logged = record_change(operator, account, ROTATED, details, receipt, {"grace_seconds": grace_seconds})
    return RotatedKey(details, former_hint, receipt, is_logged, issued.text)


def end_former_secret(operator: Operator, account: str, key_id: UUID, seconds: int) -> ChangedKey:
    """Refuse the former secret of a key after `seconds` at the latest; 0: at once. Can be repeated.

    Returns when every worker applies it. Raises NoSuchAccount, NotFound, Conflict if no former secret is accepted and
    `seconds` is not 0, TenancyError, SystemDatabaseUnavailable or RevocationUnconfirmed.
    """
    record = operator.read_account(account)
    revocation = operator.services.revocation
    with operator.sessions.writing(account) as session:
        ended = rotation.shorten(session, key_id, seconds, operator.actor)
        details = details_of(ended.key, record.rotate_after_days)
        intent = key_revocation.write_intent(revocation, account, str(key_id), revoked=False, secrets_below=ended.below)
    writing = operator.sessions.writing
    receipt = key_revocation.complete(revocation, intent, ended.event_id, lambda: writing(account))
    detail = {"ends_in_seconds": seconds}
    return ChangedKey(details, receipt, record_change(operator, account, FORMER_SECRET_ENDED, details, receipt, detail))


def former_secrets(operator: Operator, account: str, key_id: UUID) -> Sequence[FormerSecretDetails]:
    """The latest former secrets of a key. Empty before `account_0004`. Raises the errors of `keys.read`."""
    if not rotation.has_rotation(operator.read_account(account).tenant):
        return ()
    with operator.sessions.reading(account) as session:
        found = rotation.former_secrets(session, [key_id]).get(key_id, ())
        return [
            FormerSecretDetails(
                one.hint, one.rotated_at, one.ends_at, one.late_uses, one.last_late_use_at, one.last_late_address
            )
            for one in found
        ]
